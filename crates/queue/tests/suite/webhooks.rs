//! The outbox: each webhook is due with its request's end, and sent by one process at a time.

use crate::rig::{Rig, claim, request, submit};
use latentd_queue::queue::{Failure, FailureKind, NewRequest, NewWebhook, Queue, RequestId, Webhook};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

crate::on_both! {
    a_webhook_is_due_with_the_end_of_its_request,
    processes_that_look_at_once_send_each_once_and_spare_the_receiver,
    what_a_dead_process_held_is_sent_again,
    what_was_not_sent_counts_as_no_attempt,
}

fn with_webhook(receiver: &str) -> NewRequest {
    let webhook =
        NewWebhook { url: format!("http://{receiver}/"), receiver: receiver.into(), origin: "o".into() };
    NewRequest { webhook: Some(webhook), ..request() }
}

async fn ended(queue: &Queue, receiver: &str) -> RequestId {
    submit(queue, &with_webhook(receiver)).await;
    let claim = claim(queue, "w").await.expect("a request");
    queue.finish(&claim, &json!({}), &[], &[]).await.expect("a database");
    claim.id
}

async fn due(queue: &Queue) -> Vec<Webhook> {
    queue.claim_webhooks(100).await.expect("a database")
}

async fn a_webhook_is_due_with_the_end_of_its_request(rig: Rig) {
    let queue = rig.open().await;
    submit(&queue, &with_webhook("r")).await;
    assert!(due(&queue).await.is_empty());
    let first = claim(&queue, "w").await.expect("a request");
    queue.finish(&first, &json!({}), &[], &[]).await.expect("a database");
    let [webhook] = &due(&queue).await[..] else { panic!("one is due") };
    assert_eq!((webhook.request, webhook.attempt), (first.id, 1));
    assert!(due(&queue).await.is_empty(), "it is on its way");
    queue.webhook_failed(webhook, Some(Duration::from_secs(60)), "refused").await.expect("a database");
    assert!(due(&queue).await.is_empty());
    rig.advance(Duration::from_secs(61)).await;
    let [again] = &due(&queue).await[..] else { panic!("one is due") };
    assert_eq!(again.attempt, 2);
    queue.webhook_failed(again, None, "refused").await.expect("a database");
    let log = queue.logs(first.id, 0).await.expect("a database");
    assert!(log.last().is_some_and(|line| line.message.contains("given up after 2 attempts")), "{log:?}");
    rig.advance(Duration::from_secs(3600)).await;
    assert!(due(&queue).await.is_empty());

    let refused = queue.submit_failed(&with_webhook("r"), &Failure::of(FailureKind::Invalid)).await;
    refused.expect("a database");
    let [webhook] = &due(&queue).await[..] else { panic!("one is due") };
    queue.webhook_delivered(webhook).await.expect("a database");
    let counters = queue.counters().await.expect("a database");
    let attempts = counters.iter().filter(|of| of.metric == "webhook_attempts");
    assert_eq!(
        attempts.map(|of| (of.labels[0].as_str(), of.count())).collect::<Vec<_>>(),
        [("delivered", 1), ("failed", 1), ("given_up", 1)]
    );
}

async fn processes_that_look_at_once_send_each_once_and_spare_the_receiver(rig: Rig) {
    let queue = rig.open().await;
    for number in 0..12 {
        ended(&queue, if number < 8 { "busy" } else { "other" }).await;
    }
    let processes = [rig.open().await, rig.open().await, queue];
    let looks: Vec<_> = processes
        .iter()
        .cycle()
        .take(9)
        .map(|queue| {
            let queue = queue.clone();
            tokio::spawn(async move { due(&queue).await })
        })
        .collect();
    let mut claimed = Vec::new();
    for look in looks {
        claimed.extend(look.await.expect("no panic"));
    }
    let requests: BTreeSet<_> = claimed.iter().map(|webhook| webhook.request.to_string()).collect();
    assert_eq!(requests.len(), claimed.len(), "none is sent twice");
    let busy = claimed.iter().filter(|webhook| webhook.url.contains("busy")).count();
    assert_eq!((busy, claimed.len()), (4, 8), "four at once to a receiver");
}

async fn what_a_dead_process_held_is_sent_again(rig: Rig) {
    let queue = rig.open().await;
    let id = ended(&queue, "r").await;
    assert_eq!(due(&queue).await.len(), 1);
    assert!(due(&queue).await.is_empty());
    rig.advance(Duration::from_secs(31)).await;
    assert_eq!(due(&queue).await[0].request, id);
    queue.release_webhooks().await.expect("a database");
    assert_eq!(due(&queue).await[0].attempt, 3);
}

async fn what_was_not_sent_counts_as_no_attempt(rig: Rig) {
    let queue = rig.open().await;
    let id = ended(&queue, "r").await;
    let [claimed] = &due(&queue).await[..] else { panic!("one is due") };
    queue.webhook_not_sent(claimed).await.expect("a database");
    let [again] = &due(&queue).await[..] else { panic!("it is due at once") };
    assert_eq!((again.request, again.attempt), (id, 1));
    queue.webhook_delivered(again).await.expect("a database");
    queue.webhook_not_sent(again).await.expect("a database");
    assert!(due(&queue).await.is_empty(), "it was delivered");
}
