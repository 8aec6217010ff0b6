//! From a connection to a link, on the device.

use std::{sync::Arc, time::Duration};

use tokio::{io::AsyncWriteExt, time::timeout};
use troupe_wire::device::{DEVICE_VERSION, DeviceFrame, DeviceHello, DeviceWelcome};

use super::{
    error::DeviceLinkError,
    frames::{read_frame, write_frame},
};
use crate::stream::{Connection, LinkStream, Purpose};

/// A device's link: welcomed, nothing else said yet.
#[derive(Debug)]
pub struct DeviceLink {
    /// What the cluster said.
    pub welcome: DeviceWelcome,
    /// What carries the streams.
    pub connection: Arc<dyn Connection>,
    /// The control stream.
    pub control: LinkStream,
}

/// Says hello on a fresh connection and hears the answer.
///
/// # Errors
/// See [`DeviceLinkError`]; the connection is closed then.
pub async fn greet(
    connection: Arc<dyn Connection>,
    hello: DeviceHello,
    deadline: Duration,
) -> Result<DeviceLink, DeviceLinkError> {
    let talk = async {
        let mut control = connection.open(Purpose::Control).await.map_err(DeviceLinkError::Link)?;
        write_frame(&mut control.write, &DeviceFrame::Hello(Box::new(hello))).await?;
        control.write.flush().await.map_err(DeviceLinkError::Stream)?;
        loop {
            match read_frame(&mut control.read).await? {
                Some((DeviceFrame::Welcome(welcome), _)) if welcome.version == DEVICE_VERSION => {
                    return Ok((*welcome, control));
                }
                Some((DeviceFrame::Welcome(_), _)) => {
                    return Err(DeviceLinkError::Unexpected { what: "another version" });
                }
                Some((DeviceFrame::Refused(refusal), _)) => {
                    return Err(DeviceLinkError::Refused(refusal));
                }
                Some((DeviceFrame::Other(..), _)) => {}
                Some(_) => return Err(DeviceLinkError::Unexpected { what: "no welcome" }),
                None => return Err(DeviceLinkError::Unexpected { what: "the end of the stream" }),
            }
        }
    };
    match timeout(deadline, talk).await.unwrap_or(Err(DeviceLinkError::Deadline)) {
        Ok((welcome, control)) => Ok(DeviceLink { welcome, connection, control }),
        Err(error) => {
            connection.close("no link");
            Err(error)
        }
    }
}
