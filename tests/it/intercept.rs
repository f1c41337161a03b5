//! The port that answers for fal, over real sockets: who is let in, what it vouches for, and what it refuses.

mod authority;
mod command;
mod port;
mod proxy;
mod run;
mod tunnel;
