//! The claims that a worker has in hand: its heartbeat renews their leases, and no others. The answer to a claim may be
//! lost after the database has recorded it; nobody works on that request, and its lease must run out.

use crate::queue::RequestId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The claims in hand; clones share them.
#[derive(Debug, Clone, Default)]
pub struct HeldClaims(Arc<Mutex<Vec<RequestId>>>);

impl HeldClaims {
    /// A claim, until the returned value is dropped.
    pub(super) fn hold(&self, id: RequestId) -> HeldClaim {
        self.lock().push(id);
        HeldClaim { claims: self.clone(), id }
    }

    /// Their requests.
    pub fn ids(&self) -> Vec<RequestId> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<RequestId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of them.
pub(super) struct HeldClaim {
    claims: HeldClaims,
    id: RequestId,
}

impl Drop for HeldClaim {
    fn drop(&mut self) {
        let mut ids = self.claims.lock();
        if let Some(at) = ids.iter().position(|id| *id == self.id) {
            ids.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_held_until_it_is_dropped() {
        let claims = HeldClaims::default();
        let [first, second] = [RequestId::new(), RequestId::new()];
        let (held, again) = (claims.hold(first), claims.hold(second));
        assert_eq!(claims.ids(), [first, second]);
        drop(held);
        assert_eq!(claims.ids(), [second]);
        drop(again);
        assert!(claims.ids().is_empty());
    }
}
