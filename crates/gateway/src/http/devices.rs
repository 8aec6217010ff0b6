//! Devices: machines that run agents.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    routing::{delete, get, patch, post},
};
use troupe_api::{
    device::{DeviceInvitation, DevicePatch, DeviceView, InvitationView, InviteDevice},
    task::Page,
};

use super::{
    answer::Refusal,
    body::{Input, Parted, Who},
    route::{Access, Route, of, page_of},
};
use crate::gateway::Shared;

pub(super) const ROUTES: &[Route] = &[
    Route::new("GET", "/api/v1/devices", "list_devices", "The caller's devices, by name.", || {
        get(list)
    })
    .gives(page_of::<DeviceView>),
    Route::new(
        "POST",
        "/api/v1/devices/invitations",
        "invite_device",
        "Makes an invitation: one line for the machine, good once, for ten minutes.",
        || post(invite),
    )
    .takes(of::<InviteDevice>)
    .gives(of::<DeviceInvitation>)
    .status(201),
    Route::new(
        "GET",
        "/api/v1/devices/invitations/{id}",
        "get_invitation",
        "What became of an invitation.",
        || get(invitation),
    )
    .by(Access::Owner)
    .gives(of::<InvitationView>),
    Route::new(
        "GET",
        "/api/v1/devices/{id}",
        "get_device",
        "A device, by id, name or alias.",
        || get(view),
    )
    .by(Access::Owner)
    .gives(of::<DeviceView>),
    Route::new(
        "PATCH",
        "/api/v1/devices/{id}",
        "patch_device",
        "Changes alias, labels, slots, draining, or which device is preferred.",
        || patch(change),
    )
    .by(Access::Owner)
    .takes(of::<DevicePatch>)
    .gives(of::<DeviceView>),
    Route::new(
        "DELETE",
        "/api/v1/devices/{id}",
        "revoke_device",
        "Takes a device out for good; its link ends within a second.",
        || delete(revoke),
    )
    .by(Access::Owner)
    .status(204),
];

async fn list(
    State(shared): State<Shared>,
    Who(who): Who,
) -> Result<Json<Page<DeviceView>>, Refusal> {
    Ok(Json(shared.state.devices.list(&who).await?))
}

async fn invite(
    State(shared): State<Shared>,
    Who(who): Who,
    Input(invite): Input<InviteDevice>,
) -> Result<(StatusCode, Json<DeviceInvitation>), Refusal> {
    Ok((StatusCode::CREATED, Json(shared.state.devices.invite(&who, invite).await?)))
}

async fn invitation(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(id): Parted<String>,
) -> Result<Json<InvitationView>, Refusal> {
    Ok(Json(shared.state.devices.invitation(&who, &id).await?))
}

async fn view(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(device): Parted<String>,
) -> Result<Json<DeviceView>, Refusal> {
    Ok(Json(shared.state.devices.view(&who, &device).await?))
}

async fn change(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(device): Parted<String>,
    Input(patch): Input<DevicePatch>,
) -> Result<Json<DeviceView>, Refusal> {
    Ok(Json(shared.state.devices.change(&who, &device, patch).await?))
}

async fn revoke(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(device): Parted<String>,
) -> Result<StatusCode, Refusal> {
    shared.state.devices.revoke(&who, &device).await?;
    Ok(StatusCode::NO_CONTENT)
}
