//! The stand-in for the Hugging Face hub as a program: `hub-stand-in OWNER/NAME=DIR …` serves directories, prints what
//! `HF_ENDPOINT` is to be, and ends with its input.

#[expect(dead_code, reason = "a program misbehaves less than a test wants")]
mod stand_in;

use stand_in::{Repository, StandIn};
use std::path::Path;
use tokio::io::AsyncReadExt;

#[tokio::main]
async fn main() {
    let repositories = std::env::args().skip(1).map(|argument| {
        let (name, directory) = argument.split_once('=').expect("OWNER/NAME=DIR");
        (name.to_owned(), Repository::of(Path::new(directory)))
    });
    let hub = StandIn::start(repositories).await;
    println!("{}", hub.url);
    let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
}
