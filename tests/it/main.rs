//! The server's own tests: the real router over real SQLite in a temporary directory, with
//! requests painted by the real worker loop around an engine that a test holds in its hand.

mod access;
mod bench;
mod cancel;
mod crash;
mod files;
mod headers;
mod idempotency;
mod input;
mod keys;
mod keys_command;
mod lifecycle;
mod long_run;
mod order;
mod orphans;
mod overlap;
mod preview;
mod proxies;
mod raw;
mod recovery;
mod retention;
mod routing;
mod run;
mod safety;
mod scopes;
mod stream;
mod support;
mod terms;
mod tokens;
mod uploads;
mod webhooks;
mod wire;
