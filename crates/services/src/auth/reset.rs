//! A lost password, set anew by whoever holds the store itself: nobody is asked who they are.

use std::sync::Arc;

use troupe_api::{admin::AuditEntry, auth::UserView};
use troupe_store::{Directory, DirectoryTable};
use troupe_types::Clock;

use super::{
    AuthError, AuthOptions, password,
    password::Hasher,
    rows::{self, Rows, UserRow},
    users::view,
};
use crate::admin::audit;

/// What the audit calls whoever did it.
const BY: &str = "(who holds the store)";

/// Finds the user of a name, in whatever case.
///
/// # Errors
/// [`AuthError::NotFound`]; `Conflict` if the account is deactivated; `Store`.
pub async fn find_user(directory: Arc<dyn Directory>, name: &str) -> Result<UserView, AuthError> {
    let rows = Rows::new(directory, AuthOptions::default().store_timeout);
    Ok(view(&active(&rows, name).await?))
}

/// Sets the password of a user and ends all their sessions; nodes that run hear of it as of any
/// revocation. API keys stay.
///
/// # Errors
/// As [`find_user`], and `Invalid` if the password does not do.
pub async fn reset_password(
    directory: Arc<dyn Directory>,
    clock: &dyn Clock,
    name: &str,
    new: &str,
) -> Result<UserView, AuthError> {
    password::check(new)?;
    let rows = Rows::new(Arc::clone(&directory), AuthOptions::default().store_timeout);
    let user = active(&rows, name).await?;
    let hash = Hasher::new(1).hash(new).await?;
    let now = clock.now();
    let change = |row: &mut UserRow| -> Result<(), AuthError> {
        row.password_hash = Some(hash.clone());
        // Sessions of the generations before are over.
        row.generation += 1;
        row.updated_at = now;
        Ok(())
    };
    let key = rows::id_key(user.id.uuid());
    let changed = rows.change(DirectoryTable::User, &key, true, change).await?;
    let (row, ()) = changed.ok_or(AuthError::NotFound("User"))?;
    tracing::info!(target: "audit", action = "reset_password", by = BY, of = %row.id);
    let entry = AuditEntry {
        at: now,
        user_id: row.id,
        user_name: BY.to_owned(),
        action: "reset_password".to_owned(),
        target: row.name.clone(),
        detail: String::new(),
        outcome: "done".to_owned(),
    };
    audit::keep(directory.as_ref(), 0, entry).await;
    Ok(view(&row))
}

async fn active(rows: &Rows, name: &str) -> Result<UserRow, AuthError> {
    let user = rows.user_by_name(name).await?.ok_or(AuthError::NotFound("User"))?;
    if user.is_active {
        return Ok(user);
    }
    Err(AuthError::Conflict("This account is deactivated; an administrator activates it first."))
}
