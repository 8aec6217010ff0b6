//! Device.

use super::{
    Default, Field, Form, Object, Type,
    common::{LINES, TIME, choice, form, line},
    envelope::{MESSAGE, STATE},
};

pub(super) static DEVICE: Object = Object::new(
    "Device",
    "An enrolled machine.",
    &[
        Field::new("deviceId", form(100, Form::Name), "Chosen by the device, never changes.")
            .required(),
        Field::new("displayName", line(200), "Name for people."),
        Field::new("deviceType", choice(&["local", "app", "cloud", "remote"]), "What it is.")
            .or(Default::Text("local")),
        Field::new("connectionMode", choice(&["websocket", "quic"]), "How it is linked.")
            .or(Default::Text("websocket")),
        Field::new("bindShell", choice(&["claudecode", "openclaw"]), "What runs on it.")
            .or(Default::Text("claudecode")),
        Field::new("capabilities", LINES, "What it can do, like `git`."),
        Field::new("isDefault", Type::Bool, "At most one for each user and type.")
            .or(Default::Bool(false)),
        Field::new("cloudConfig", Type::Free, "For `cloud`."),
        Field::new("remoteConfig", Type::Free, "For `remote`."),
        Field::new("runtimeInstanceId", line(100), "New with each start of its process."),
    ],
);

pub(super) static STATUS: Object = Object::new(
    "DeviceStatus",
    "How it is.",
    &[
        STATE,
        MESSAGE,
        Field::new("deviceStatus", choice(&["online", "offline", "busy"]), "Whether it is there."),
        Field::new("lastHeartbeat", TIME, "When it was last heard."),
    ],
);
