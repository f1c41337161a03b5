//! The server's own tests: the real router over real SQLite in a temporary directory, with
//! requests painted by the real worker loop around an engine that a test holds in its hand.

mod access;
mod bench;
mod cancel;
mod crash;
mod files;
mod input;
mod lifecycle;
mod order;
mod recovery;
mod routing;
mod run;
mod safety;
mod stream;
mod support;
mod terms;
mod uploads;
mod webhooks;
