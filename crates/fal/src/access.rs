//! Who may call: the checks of host, origin, key and token.

pub(crate) mod auth;
pub(crate) mod guard;
pub(crate) mod isolation;
pub(crate) mod tokens;
