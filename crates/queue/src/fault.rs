//! Whose fault a failure is. What the machine cannot do now is tried again or waited for; only what is a request's own
//! fault ends the request.

/// A failure that knows whose fault it is.
pub trait Fault {
    /// Is it the machine's: a full disk, a locked database, a model that cannot be loaded? The same may succeed another
    /// time.
    fn is_machines(&self) -> bool;
}
