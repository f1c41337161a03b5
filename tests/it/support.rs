//! What the tests share: a server without a socket, workers with scripted engines, clocks, and the real program.

mod answer;
mod calls;
mod clock;
pub(crate) mod engine;
mod eventually;
mod http;
mod input;
mod program;
mod server;
mod status;
mod stepped;
mod worker;

pub(crate) use answer::Answer;
pub(crate) use calls::id_of;
pub(crate) use clock::{HOUR, TestClock};
pub(crate) use engine::Scripted;
pub(crate) use eventually::{eventually, within};
pub(crate) use http::exchange;
pub(crate) use input::{ENDPOINT, endpoints, every_model, small, small_with};
pub(crate) use program::{Program, signal};
pub(crate) use server::{Server, files};
pub(crate) use status::{attempts, messages, steps_of_attempt};
pub(crate) use stepped::{StepControl, SteppedRun, stepped_engine};
pub(crate) use worker::{RunningWorker, hub_of, tick_until_idle};
