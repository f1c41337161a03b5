//! Which connections are open, and which of them goes when another client needs its place: the one that has been
//! idle, or has not read its answer, for longest. So nobody keeps others out by holding connections open.

mod paced;
mod stream;
mod streams;

pub(crate) use paced::PacedBody;
pub use stream::ClientStream;

use ipnet::IpNet;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use stream::Activity;
use streams::{StreamPermit, Streams};
use tokio::sync::watch;
use tokio::time::Instant;

/// Connections held at once, web sockets included.
pub const MAX_CONNECTIONS: usize = 4096;

/// Of the connections, one address may hold this share, unless it is a proxy's that the operator trusts.
const SHARE: usize = 2;

/// File descriptors that are not connections': the database, files of the program, workers' pipes.
const OTHER_FILES: u64 = 256;

/// A connection that has been quiet for less is not closed to make room.
const QUIET: Duration = Duration::from_millis(500);

/// A client that takes nothing of its answer for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection is asked to end when it had no call for so long, and closed after twice that.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Refused clients are logged at most this often.
const WARNED: Duration = Duration::from_secs(60);

/// All connections of a server.
pub struct Connections {
    most: usize,
    /// Proxies, which hold connections for many clients.
    exempt: Vec<IpNet>,
    began: Instant,
    open: Mutex<Open>,
    /// How many permits there are.
    permits: watch::Sender<usize>,
}

#[derive(Default)]
struct Open {
    last_id: u64,
    connections: HashMap<u64, Arc<Activity>>,
    streams: Streams,
    warned: Option<Instant>,
}

impl Default for Connections {
    fn default() -> Self {
        Self::new(None, Vec::new())
    }
}

impl Connections {
    /// As many as the process may open files for: each may need another one for what it sends or receives. `exempt` are
    /// addresses that may hold more than their share.
    pub fn new(open_files: Option<u64>, exempt: Vec<IpNet>) -> Self {
        let most = open_files.map_or(MAX_CONNECTIONS, Self::within);
        Self { most, exempt, began: Instant::now(), open: Mutex::default(), permits: watch::channel(0).0 }
    }

    /// Connections for which there are enough file descriptors.
    pub fn within(open_files: u64) -> usize {
        let spare = open_files.saturating_sub(OTHER_FILES).max(open_files / 4) / 2;
        usize::try_from(spare).unwrap_or(usize::MAX).clamp(1, MAX_CONNECTIONS)
    }

    /// Lets a connection in; `None` where all others are in use.
    pub(crate) fn admit(
        self: &Arc<Self>,
        peer: IpAddr,
        draining: &watch::Receiver<bool>,
    ) -> Option<ConnectionPermit> {
        let source = source(peer);
        let now = self.now();
        let mut open = self.lock();
        let is_exempt = self.is_exempt(peer);
        let of_source = |activity: &Activity| activity.source == source;
        if !is_exempt
            && open.connections.values().filter(|it| of_source(it)).count() >= (self.most / SHARE).max(1)
        {
            open.close_quietest(now, of_source)?;
        }
        if open.connections.len() >= self.most {
            open.close_quietest(now, |_| true)?;
        }
        open.last_id += 1;
        let id = open.last_id;
        let activity = Arc::new(Activity::new(source, is_exempt, self.began));
        open.connections.insert(id, activity.clone());
        self.permits.send_modify(|permits| *permits += 1);
        let held = Permit { id, connections: self.clone() };
        Some(ConnectionPermit { held: Arc::new(held), activity, draining: draining.clone() })
    }

    fn is_exempt(&self, peer: IpAddr) -> bool {
        self.exempt.iter().any(|net| net.contains(&peer.to_canonical()))
    }

    /// Closes the connections of clients that do not read, and those that carry nothing for long.
    pub(crate) fn close_stalled(&self) {
        let now = self.now();
        let passed = |since: Option<u64>| since.map_or(0, |since| now.saturating_sub(since));
        for activity in self.lock().connections.values() {
            let idle = passed(activity.idle_since());
            if passed(activity.unread_since()) >= millis(WRITE_TIMEOUT) || idle >= 2 * millis(IDLE_TIMEOUT) {
                activity.close();
            } else if idle >= millis(IDLE_TIMEOUT) {
                activity.retire();
            }
        }
    }

    /// Whether refused clients may be logged again.
    pub(crate) fn is_time_to_warn(&self) -> bool {
        let mut open = self.lock();
        let is_time = open.warned.is_none_or(|last| last.elapsed() >= WARNED);
        if is_time {
            open.warned = Some(Instant::now());
        }
        is_time
    }

    /// Waits until every connection is over.
    pub(crate) async fn all_over(&self) {
        let _ = self.permits.subscribe().wait_for(|permits| *permits == 0).await;
    }

    fn now(&self) -> u64 {
        millis(self.began.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Closes the connection that has been quiet for longest, of those that can be spared.
    fn close_quietest(&mut self, now: u64, may_go: impl Fn(&Activity) -> bool) -> Option<()> {
        let quiet = self.connections.iter().filter(|(_, activity)| may_go(activity));
        let quiet = quiet.filter_map(|(id, activity)| Some((activity.quiet_since()?, *id)));
        let (since, id) = quiet.min()?;
        if now.saturating_sub(since) < millis(QUIET) {
            return None;
        }
        self.connections.remove(&id)?.close();
        Some(())
    }
}

/// The place of a connection, and of the web socket that it may become: the server waits until it is released.
#[derive(Clone)]
pub(crate) struct ConnectionPermit {
    held: Arc<Permit>,
    activity: Arc<Activity>,
    draining: watch::Receiver<bool>,
}

impl ConnectionPermit {
    /// Waits for the end: nothing is worked on any more.
    pub(crate) async fn draining(&mut self) {
        let _ = self.draining.wait_for(|draining| *draining).await;
    }

    /// The connection has come to HTTP.
    pub(crate) fn begin_http(&self) {
        self.activity.begin_http();
    }

    /// Waits until the connection should take no more calls, for there were none for long.
    pub(crate) async fn retired(&self) {
        self.activity.retired().await;
    }

    /// While this is kept, the client waits for the server and not the server for its client.
    pub(crate) fn begin_call(&self) -> CallGuard {
        CallGuard::new(self.activity.clone(), None)
    }

    /// The same for one of several calls of a connection; `None` where there are as many as there may be.
    pub(crate) fn begin_stream(&self) -> Option<CallGuard> {
        let permit = StreamPermit::take(&self.held.connections, &self.activity)?;
        Some(CallGuard::new(self.activity.clone(), Some(permit)))
    }

    pub(crate) fn activity(&self) -> Arc<Activity> {
        self.activity.clone()
    }
}

/// A call in work.
pub(crate) struct CallGuard {
    activity: Arc<Activity>,
    _stream: Option<StreamPermit>,
}

impl CallGuard {
    fn new(activity: Arc<Activity>, stream: Option<StreamPermit>) -> Self {
        activity.begin_call();
        Self { activity, _stream: stream }
    }

    fn activity(&self) -> Arc<Activity> {
        self.activity.clone()
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.activity.end_call();
    }
}

struct Permit {
    id: u64,
    connections: Arc<Connections>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.connections.lock().connections.remove(&self.id);
        self.connections.permits.send_modify(|permits| *permits -= 1);
    }
}

/// Whose connections are counted together: an address, of IPv6 the network that one subscriber has.
fn source(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address => address,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A moment, in milliseconds since the server began; kept as one more, for 0 is none.
#[derive(Debug, Default)]
struct Moment(AtomicU64);

impl Moment {
    fn get(&self) -> Option<u64> {
        self.0.load(Ordering::Relaxed).checked_sub(1)
    }

    fn set(&self, at: u64) {
        self.0.store(at.saturating_add(1), Ordering::Relaxed);
    }

    fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTACKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn eight(exempt: Vec<IpNet>) -> (Arc<Connections>, watch::Receiver<bool>) {
        let connections = Connections { most: 8, ..Connections::new(None, exempt) };
        (Arc::new(connections), watch::channel(false).1)
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_holds_many_connections_loses_its_own_to_others_and_to_itself() {
        let (connections, draining) = eight(Vec::new());
        let mut held: Vec<_> =
            (0..4).map(|_| connections.admit(ATTACKER, &draining).expect("room")).collect();
        assert!(connections.admit(ATTACKER, &draining).is_none(), "half is the share of an address");
        let working = held[0].begin_call();
        tokio::time::advance(QUIET).await;
        held.push(connections.admit(ATTACKER, &draining).expect("room"));
        let closed =
            |held: &[ConnectionPermit]| held.iter().map(|it| it.activity.is_closed()).collect::<Vec<_>>();
        assert_eq!(closed(&held), [false, true, false, false, false], "the quietest that is not working");
        let others: Vec<_> = (0..4).map(|_| connections.admit(OTHER, &draining).expect("room")).collect();
        let all_work: Vec<_> = others.iter().chain(&held[2..]).map(ConnectionPermit::begin_call).collect();
        tokio::time::advance(QUIET).await;
        assert!(connections.admit(IpAddr::from([10, 0, 0, 1]), &draining).is_none(), "all are in use");
        drop(working);
        assert!(connections.admit(IpAddr::from([10, 0, 0, 1]), &draining).is_none(), "it was just in use");
        tokio::time::advance(QUIET).await;
        assert!(connections.admit(IpAddr::from([10, 0, 0, 1]), &draining).is_some());
        assert!(held[0].activity.is_closed());
        drop((all_work, held, others));
        connections.all_over().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_of_the_operator_may_hold_all() {
        for (network, proxy) in [("192.0.2.1/32", ATTACKER), ("::1/128", Ipv6Addr::LOCALHOST.into())] {
            let (connections, draining) = eight(vec![network.parse().expect("a network")]);
            let held: Vec<_> = (0..8).map(|_| connections.admit(proxy, &draining).expect("room")).collect();
            assert!(connections.admit(proxy, &draining).is_none());
            let calls: Vec<_> = (0..8).map(|_| held[0].begin_stream().expect("room")).collect();
            assert!(held[1].begin_stream().is_none());
            drop((held, calls));
            assert!(connections.admit(proxy, &draining).is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_of_clients_that_do_not_read_or_do_not_call_end() {
        let (connections, draining) = eight(Vec::new());
        let admit = || connections.admit(ATTACKER, &draining).expect("room");
        let (reads_nothing, calls_nothing) = (admit(), admit());
        let call = reads_nothing.begin_call();
        let unread = reads_nothing.activity.begin_answer();
        let closed = || {
            connections.close_stalled();
            [&reads_nothing, &calls_nothing].map(|connection| connection.activity.is_closed())
        };
        tokio::time::advance(WRITE_TIMEOUT - Duration::from_millis(10)).await;
        unread.set(); // the client takes a piece
        calls_nothing.activity.begin_http();
        tokio::time::advance(Duration::from_millis(20)).await;
        assert_eq!(closed(), [false, false]);
        tokio::time::advance(WRITE_TIMEOUT).await;
        assert_eq!(closed(), [true, false]);
        tokio::time::advance(2 * IDLE_TIMEOUT - WRITE_TIMEOUT).await;
        assert_eq!(closed(), [true, true]);
        drop(call);
    }

    #[test]
    fn there_are_files_for_every_connection() {
        assert_eq!([64, 1024, 4096, 1 << 20].map(Connections::within), [8, 384, 1920, MAX_CONNECTIONS]);
    }

    #[test]
    fn a_network_of_one_subscriber_is_one_source() {
        let [a, b, c] = ["2001:db8:0:1::1", "2001:db8:0:1:9::2", "2001:db8:0:2::1"]
            .map(|text| source(text.parse().expect("an address")));
        assert_eq!(a, b);
        assert_ne!(a, c);
        assert_eq!(source("::ffff:192.0.2.1".parse().expect("an address")), ATTACKER);
    }
}
