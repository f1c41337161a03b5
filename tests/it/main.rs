//! The server's own tests: the real router over real SQLite in a temporary directory, with
//! requests painted by the real worker loop around an engine that a test holds in its hand.

mod access;
mod bench;
mod cancel;
mod crash;
mod fal_document;
mod files;
mod input;
mod keys;
mod keys_command;
mod lifecycle;
mod openapi;
mod order;
mod recovery;
mod routing;
mod run;
mod safety;
mod stream;
mod support;
mod terms;
mod tokens;
mod uploads;
mod webhooks;
