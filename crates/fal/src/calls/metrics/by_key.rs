//! The metrics of each key: how its requests ended, how many run, and how many may. A key is named by its id.

use crate::access::isolation;
use crate::output::error::ApiError;
use crate::state::Api;
use latentd_queue::keys::Caller;
use latentd_queue::queue::{ApiKey, Counter};
use std::collections::{HashMap, HashSet};

/// The counter in the database.
pub(super) const KEY_REQUESTS: &str = "key_requests";

/// So many keys have numbers of their own, the oldest ones; whatever operators create, a scrape stays bounded.
const MAX_KEYS: usize = 500;

/// Stands for all keys beyond them.
const OTHERS: &str = "other";

/// What a scrape says of keys.
#[derive(Debug, Default)]
pub(super) struct KeyGauges {
    /// Of keys that have a limit.
    pub(super) limits: Vec<(String, u64)>,
    /// Of keys that have any.
    pub(super) running: Vec<(String, u64)>,
}

/// Leaves to `counters` the keys that the caller may see and names those beyond the bound as one.
pub(super) async fn read(
    api: &Api,
    caller: &Caller,
    counters: &mut Vec<Counter>,
) -> Result<KeyGauges, ApiError> {
    let keys: Vec<ApiKey> = api.queue.keys().await?.into_iter().take(MAX_KEYS).collect();
    let named: HashSet<&str> = keys.iter().map(|key| key.id.as_str()).collect();
    counters.retain(|of| of.metric != KEY_REQUESTS || isolation::may_count(api, caller, &of.labels[0]));
    join_others(counters, &named);
    let is_shown = |key: &&ApiKey| key.revoked_at.is_none() && isolation::may_count(api, caller, &key.id);
    let shown: Vec<&ApiKey> = keys.iter().filter(is_shown).collect();
    let limits = shown.iter().filter_map(|key| Some((key.id.clone(), u64::from(key.concurrency?)))).collect();
    let running: HashMap<String, u64> = api.queue.running_by_key().await?.into_iter().collect();
    let running = shown.iter().filter_map(|key| Some((key.id.clone(), *running.get(&key.id)?))).collect();
    Ok(KeyGauges { limits, running })
}

/// Adds up, for each outcome, what is counted for keys without a name of their own.
fn join_others(counters: &mut Vec<Counter>, named: &HashSet<&str>) {
    let mut others: HashMap<String, Counter> = HashMap::new();
    counters.retain(|of| {
        let is_other = of.metric == KEY_REQUESTS && !named.contains(of.labels[0].as_str());
        if is_other {
            let outcome = of.labels[1].clone();
            let labels = [OTHERS.to_owned(), outcome.clone()];
            let empty = Counter { labels, buckets: Vec::new(), ..of.clone() };
            others.entry(outcome).or_insert(empty).buckets.extend(&of.buckets);
        }
        !is_other
    });
    counters.extend(others.into_values());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_beyond_the_bound_are_counted_as_one() {
        let counter = |key: &str, outcome: &str, count| Counter {
            metric: KEY_REQUESTS.into(),
            labels: [key.into(), outcome.into()],
            buckets: vec![(f64::INFINITY, count)],
            sum: 0.0,
        };
        let mut counters =
            vec![counter("a", "succeeded", 1), counter("b", "succeeded", 2), counter("c", "succeeded", 3)];
        counters.push(counter("c", "engine", 4));
        join_others(&mut counters, &HashSet::from(["a"]));
        let mut found: Vec<_> =
            counters.iter().map(|of| (of.labels[0].as_str(), of.labels[1].as_str(), of.count())).collect();
        found.sort_unstable();
        assert_eq!(found, [("a", "succeeded", 1), ("other", "engine", 4), ("other", "succeeded", 5)]);
    }
}
