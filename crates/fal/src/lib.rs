//! fal.ai's model API over HTTP, and OpenAI's image API. It reaches images through the queue and the storage alone, and knows neither workers nor
//! engines. It is the only package that knows their wire names.
//!
//! Folders, from the top; each names only those below it:
//! - `starting`: the service of a server whose database or storage is away;
//! - `router`: what every call passes, and the handler of each;
//! - `openapi`, `docs`, `playground`: documents and pages;
//! - `openai`: OpenAI's image API;
//! - `websocket`: realtime, and run and stream over a web socket;
//! - `calls`: submit, run, stream, status, uploads and the others;
//! - `access`: the checks of host, origin, key and token;
//! - `input`: from bytes to a valid request;
//! - `routing`: the table of routes, and how a client reached the server;
//! - `state`: what all calls share;
//! - `server`: connections, and the memory that all of them together may hold;
//! - `output`: responses and errors as fal's and OpenAI's clients know them.
#![forbid(unsafe_code)]

mod access;
mod calls;
mod docs;
pub mod endpoint;
mod hosts;
mod input;
mod openai;
mod openapi;
mod output;
mod playground;
mod router;
mod routing;
mod server;
mod starting;
mod state;
mod websocket;

pub use calls::webhook::webhook_message;
pub use hosts::{FAL_DOMAINS, is_fal};
pub use router::{encrypted, router};
pub use routing::table::routes;
pub use server::connections::{ClientStream, Connections, MAX_CONNECTIONS};
pub use server::listener::{builder, listen, listen_through};
pub use server::memory::ConnectionMemory;
pub use starting::starting_router;
pub use state::Api;
pub use state::documents::Documents;
pub use state::gpu::Gpu;
pub use state::probe::Probe;
pub use state::refusals::Refusals;
pub use state::waiting_clients::WaitingClients;
pub use state::web_access::WebAccess;
