//! The calls of HTTP/2, of which one connection carries many at once: how many there may be, together and from one
//! source.

use super::Connections;
use super::stream::Activity;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Of the calls, one source may have this share.
const SHARE: usize = 2;

/// Calls by their source.
#[derive(Default)]
pub(crate) struct Streams {
    of_source: HashMap<IpAddr, usize>,
    total: usize,
}

/// The place of one call.
pub(crate) struct StreamPermit {
    source: IpAddr,
    connections: Arc<Connections>,
}

impl Streams {
    fn take(&mut self, source: IpAddr, most: usize, is_exempt: bool) -> bool {
        let held = self.of_source.entry(source).or_default();
        let is_free = self.total < most && (is_exempt || *held < (most / SHARE).max(1));
        if is_free {
            *held += 1;
            self.total += 1;
        }
        is_free
    }

    fn give_back(&mut self, source: IpAddr) {
        self.total = self.total.saturating_sub(1);
        if let Some(held) = self.of_source.get_mut(&source) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.of_source.remove(&source);
            }
        }
    }
}

impl StreamPermit {
    /// A place for another call; `None` where all are taken.
    pub(super) fn take(connections: &Arc<Connections>, activity: &Activity) -> Option<Self> {
        // As many as if each had a connection of its own.
        let (most, source) = (connections.most, activity.source);
        let is_taken = connections.lock().streams.take(source, most, activity.is_exempt);
        is_taken.then(|| Self { source, connections: connections.clone() })
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.connections.lock().streams.give_back(self.source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_cannot_take_the_calls_of_all() {
        let [attacker, other, proxy] = [1, 2, 3].map(|last| IpAddr::from([192, 0, 2, last]));
        let mut streams = Streams::default();
        let taken = |streams: &mut Streams, source, is_exempt| {
            (0..8).filter(|_| streams.take(source, 8, is_exempt)).count()
        };
        assert_eq!(taken(&mut streams, attacker, false), 4);
        assert_eq!(taken(&mut streams, other, false), 4);
        assert!(!streams.take(proxy, 8, true), "all are taken");
        streams.give_back(attacker);
        assert!(streams.take(proxy, 8, true));
        (0..3).for_each(|_| streams.give_back(attacker));
        assert!(!streams.of_source.contains_key(&attacker), "a source without calls is forgotten");
    }
}
