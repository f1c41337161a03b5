//! What may happen to a queue, and how a random sequence of it is made.
//!
//! An operation names what it works on by how recent it is, so that any sequence is possible, and any part of one: that is
//! what lets proptest shrink a failure to the few operations that matter.

use crate::rig::request;
use latentd_queue::queue::{
    FailureKind, Idempotency, NewRequest, NewWebhook, Origin, Priority, RequestOptions,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;
use std::fmt;
use std::time::Duration;

/// One of the two processes that have the database open.
pub(super) type Gateway = usize;

/// An attempt by how many were made since; the last, 0, is the simplest.
pub(super) type Attempt = usize;

/// A request by how many were accepted since.
pub(super) type Accepted = usize;

/// A worker by its number.
pub(super) type Worker = usize;

#[derive(Debug, Clone)]
pub(super) enum Operation {
    Submit(Gateway, Box<RequestSpec>),
    SubmitFailed(Gateway, Box<RequestSpec>),
    Claim(Gateway, Worker),
    Charge(Gateway, Attempt),
    Progress(Gateway, Attempt),
    Heartbeat(Gateway, Worker),
    StoreState(Gateway, Attempt),
    UseState(Gateway, Attempt),
    MustGiveWay(Gateway, Attempt),
    ExpectFile(Gateway, Attempt),
    Finish(Gateway, Attempt),
    Fail(Gateway, Attempt, FailureKind),
    GiveBack(Gateway, Attempt),
    /// It is put off for so many seconds, and given back.
    PutOff(Gateway, Attempt, u64),
    Cancel(Gateway, Accepted, FailureKind),
    Died(Gateway, Worker),
    Stopped(Gateway, Worker),
    VoidExpiredLeases(Gateway),
    ServerDied(Gateway),
    ExpireLate(Gateway),
    Erase(Gateway, Accepted),
    PruneOlder(Gateway, u64),
    PruneAllBut(Gateway, u64),
    ClaimWebhooks(Gateway),
    WebhookDelivered(Gateway, usize),
    WebhookFailed(Gateway, usize, Option<u64>),
    /// The process is gone without closing anything, and another one takes its place.
    Crash(Gateway),
    /// Seconds.
    Advance(u64),
}

/// What is not usual about a request.
#[derive(Clone, Default)]
pub(super) struct RequestSpec {
    pub(super) key: Option<&'static str>,
    pub(super) is_low: bool,
    pub(super) is_direct: bool,
    /// Idempotency key and digest of the input.
    pub(super) name: Option<(&'static str, &'static str)>,
    pub(super) start_within: Option<u64>,
    pub(super) no_retry: bool,
    pub(super) receiver: Option<&'static str>,
    pub(super) model: Option<&'static str>,
    pub(super) max_waiting: Option<u64>,
}

/// On one line, without what is as usual.
impl fmt::Debug for RequestSpec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, is_low, is_direct, name, start_within, no_retry, receiver, model, max_waiting } =
            self;
        let given = [
            key.map(|key| format!("key {key:?}")),
            is_low.then(|| "low".to_owned()),
            is_direct.then(|| "direct".to_owned()),
            name.map(|(key, digest)| format!("named {key:?} with input {digest:?}")),
            start_within.map(|seconds| format!("start within {seconds} s")),
            no_retry.then(|| "no retry".to_owned()),
            receiver.map(|receiver| format!("webhook to {receiver:?}")),
            model.map(|model| format!("model {model:?}")),
            max_waiting.map(|most| format!("at most {most} waiting")),
        ];
        write!(out, "[{}]", given.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

impl RequestSpec {
    pub(super) fn request(&self) -> NewRequest {
        let webhook = self.receiver.map(|receiver| NewWebhook {
            url: format!("http://{receiver}/"),
            receiver: receiver.into(),
            origin: "o".into(),
        });
        let options = RequestOptions {
            start_within: self.start_within.map(Duration::from_secs),
            no_retry: self.no_retry,
            ..RequestOptions::default()
        };
        NewRequest {
            origin: if self.is_direct { Origin::Direct } else { Origin::Queued },
            priority: if self.is_low { Priority::Low } else { Priority::Normal },
            body: json!({ "key": self.key, "digest": self.name.map(|(_, digest)| digest) }),
            model: self.model.map(Into::into),
            max_waiting: self.max_waiting,
            options,
            webhook,
            api_key: self.key.map(Into::into),
            idempotency: self
                .name
                .map(|(key, digest)| Idempotency { key: key.into(), digest: digest.into() }),
            ..request()
        }
    }
}

/// `None` most of the time.
fn seldom<T: Clone + std::fmt::Debug + 'static>(
    values: &'static [T],
) -> impl Strategy<Value = Option<T>> + Clone {
    prop_oneof![4 => Just(None), 1 => select(values).prop_map(Some)]
}

fn any_spec() -> impl Strategy<Value = RequestSpec> + Clone {
    let of_client = (
        prop_oneof![Just(None), select(&["limit 1", "limit 2", "unlimited"][..]).prop_map(Some)],
        any::<bool>(),
        prop::bool::weighted(0.25),
        seldom(&[("x", "1"), ("x", "2"), ("y", "1")]),
    );
    let of_options = (
        seldom(&[2, 40]),
        prop::bool::weighted(0.1),
        prop_oneof![Just(None), select(&["r", "s"][..]).prop_map(Some)],
        seldom(&["m", "other"]),
        seldom(&[1, 4]),
    );
    (of_client, of_options).prop_map(
        |((key, is_low, is_direct, name), (start_within, no_retry, receiver, model, max_waiting))| {
            RequestSpec { key, is_low, is_direct, name, start_within, no_retry, receiver, model, max_waiting }
        },
    )
}

/// A request that is sent again and again under one name, while its clients come and go.
fn named_spec() -> impl Strategy<Value = RequestSpec> + Clone {
    (any::<bool>(), prop_oneof![3 => Just("1"), 1 => Just("2")], any_spec()).prop_map(
        |(is_direct, digest, other)| {
            let name = Some(("x", digest));
            RequestSpec {
                key: None,
                is_low: false,
                is_direct,
                name,
                start_within: None,
                max_waiting: None,
                ..other
            }
        },
    )
}

fn spec() -> impl Strategy<Value = RequestSpec> + Clone {
    prop_oneof![2 => any_spec(), 1 => named_spec()]
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let (gateway, worker, attempt, accepted) = (0..2_usize, 0..3_usize, 0..4_usize, 0..6_usize);
    let on = (gateway.clone(), attempt);
    let by = (gateway.clone(), worker);
    let of = (gateway.clone(), accepted);
    let kind = select(&[FailureKind::Engine, FailureKind::InitImage, FailureKind::WorkerLost][..]);
    let cancelled = prop_oneof![Just(FailureKind::Cancelled), Just(FailureKind::ClientGone)];
    let work = prop_oneof![
        20 => (gateway.clone(), spec()).prop_map(|(gateway, spec)| Submit(gateway, Box::new(spec))),
        2 => (gateway.clone(), spec()).prop_map(|(gateway, spec)| SubmitFailed(gateway, Box::new(spec))),
        12 => by.clone().prop_map(|(gateway, worker)| Claim(gateway, worker)),
        3 => on.clone().prop_map(|(gateway, attempt)| Charge(gateway, attempt)),
        1 => on.clone().prop_map(|(gateway, attempt)| Progress(gateway, attempt)),
        1 => by.clone().prop_map(|(gateway, worker)| Heartbeat(gateway, worker)),
        2 => on.clone().prop_map(|(gateway, attempt)| StoreState(gateway, attempt)),
        2 => on.clone().prop_map(|(gateway, attempt)| UseState(gateway, attempt)),
        1 => on.clone().prop_map(|(gateway, attempt)| MustGiveWay(gateway, attempt)),
        1 => on.clone().prop_map(|(gateway, attempt)| ExpectFile(gateway, attempt)),
        5 => on.clone().prop_map(|(gateway, attempt)| Finish(gateway, attempt)),
        1 => (on.clone(), kind).prop_map(|((gateway, attempt), kind)| Fail(gateway, attempt, kind)),
        2 => on.clone().prop_map(|(gateway, attempt)| GiveBack(gateway, attempt)),
        1 => (on, select(&[5, 50][..]))
            .prop_map(|((gateway, attempt), seconds)| PutOff(gateway, attempt, seconds)),
    ];
    let others = prop_oneof![
        4 => (of.clone(), cancelled).prop_map(|((gateway, accepted), kind)| Cancel(gateway, accepted, kind)),
        4 => by.clone().prop_map(|(gateway, worker)| Died(gateway, worker)),
        1 => by.prop_map(|(gateway, worker)| Stopped(gateway, worker)),
        2 => gateway.clone().prop_map(VoidExpiredLeases),
        1 => gateway.clone().prop_map(ServerDied),
        1 => gateway.clone().prop_map(ExpireLate),
        1 => of.prop_map(|(gateway, accepted)| Erase(gateway, accepted)),
        1 => (gateway.clone(), select(&[10, 100][..])).prop_map(|(gateway, age)| PruneOlder(gateway, age)),
        1 => (gateway.clone(), 0..3_u64).prop_map(|(gateway, left)| PruneAllBut(gateway, left)),
        3 => gateway.clone().prop_map(ClaimWebhooks),
        1 => (gateway.clone(), 0..3_usize).prop_map(|(gateway, which)| WebhookDelivered(gateway, which)),
        1 => (gateway.clone(), 0..3_usize, seldom(&[1, 20]))
            .prop_map(|(gateway, which, again)| WebhookFailed(gateway, which, again)),
        1 => gateway.prop_map(Crash),
        3 => select(&[10, 35, 61, 3600][..]).prop_map(Advance),
    ];
    prop_oneof![3 => work, 2 => others]
}

/// What happens to few requests and two workers that die often: attempts that lost their claim, and what they left.
fn attempts() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let (gateway, on, by) = (0..2_usize, (0..2_usize, 0..4_usize), (0..2_usize, 0..2_usize));
    prop_oneof![
        2 => gateway.clone().prop_map(|gateway| Submit(gateway, Box::default())),
        8 => by.clone().prop_map(|(gateway, worker)| Claim(gateway, worker)),
        4 => on.clone().prop_map(|(gateway, attempt)| Charge(gateway, attempt)),
        3 => on.clone().prop_map(|(gateway, attempt)| StoreState(gateway, attempt)),
        3 => on.clone().prop_map(|(gateway, attempt)| UseState(gateway, attempt)),
        2 => on.clone().prop_map(|(gateway, attempt)| ExpectFile(gateway, attempt)),
        1 => on.clone().prop_map(|(gateway, attempt)| Finish(gateway, attempt)),
        1 => on.clone().prop_map(|(gateway, attempt)| GiveBack(gateway, attempt)),
        1 => on.prop_map(|(gateway, attempt)| PutOff(gateway, attempt, 5)),
        5 => by.clone().prop_map(|(gateway, worker)| Died(gateway, worker)),
        1 => by.prop_map(|(gateway, worker)| Heartbeat(gateway, worker)),
        2 => gateway.prop_map(VoidExpiredLeases),
        2 => select(&[35, 61][..]).prop_map(Advance),
    ]
}

/// What happens to webhooks of requests that ended at once.
fn deliveries() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let (gateway, on) = (0..2_usize, (0..2_usize, 0..4_usize));
    let receiver = Just(Box::new(RequestSpec { receiver: Some("r"), ..RequestSpec::default() }));
    prop_oneof![
        3 => (gateway.clone(), receiver).prop_map(|(gateway, spec)| SubmitFailed(gateway, spec)),
        3 => gateway.clone().prop_map(ClaimWebhooks),
        2 => on.clone().prop_map(|(gateway, which)| WebhookDelivered(gateway, which)),
        1 => on.clone().prop_map(|(gateway, which)| WebhookFailed(gateway, which, None)),
        1 => on.prop_map(|(gateway, which)| WebhookFailed(gateway, which, Some(20))),
        1 => select(&[10, 35][..]).prop_map(Advance),
        1 => gateway.clone().prop_map(ServerDied),
        1 => gateway.prop_map(|gateway| PruneAllBut(gateway, 2)),
    ]
}

/// So many operations at most.
pub(super) fn sequence(most: usize) -> impl Strategy<Value = Vec<Shown>> {
    let all = vec(operation().prop_map(Shown), 10..most);
    let attempts = vec(attempts().prop_map(Shown), 10..most);
    prop_oneof![6 => all, 3 => attempts, 1 => vec(deliveries().prop_map(Shown), 10..most)]
}

/// An operation that is printed on one line, however deep.
#[derive(Clone)]
pub(super) struct Shown(pub(super) Operation);

impl fmt::Debug for Shown {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", self.0)
    }
}
