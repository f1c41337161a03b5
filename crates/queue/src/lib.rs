//! What the server keeps: the durable queue of requests, the API keys, and the files. The only package that knows SQL.
//!
//! - [`queue`]: the tables and every operation on them;
//! - [`storage`]: files by key, durable when a write returns;
//! - [`identity`]: which database and which folder of files belong together; [`sweep`]: what is removed when;
//! - [`ended_workers`]: the requests of workers that nobody watched;
//! - [`keys`]: the API keys in memory; [`signing`]: the server's own key;
//! - [`data_dir`]: locks, permissions and durable writes; [`disk`]: how much is free;
//! - [`fault`]: whether a failure is the machine's or the request's; [`printable`]: text of unknown origin made safe to print;
//! - [`planted`]: bugs that a debug build has on demand, for tests of the tests.
//!
//! It stores values that it does not interpret and knows neither HTTP nor the engine.
#![forbid(unsafe_code)]

pub mod data_dir;
pub mod disk;
pub mod ended_workers;
pub mod fault;
pub mod identity;
pub mod keys;
pub mod planted;
pub mod printable;
pub mod queue;
pub mod signing;
pub mod storage;
pub mod storage_limit;
pub mod sweep;
