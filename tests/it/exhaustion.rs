//! What clients can do to the server's memory and to its connections, done to the real program: it takes little more
//! than at rest, gives that back, and serves everybody else meanwhile.

mod connections;
mod images;
mod inputs;
mod streams;
