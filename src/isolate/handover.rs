//! Messages between the two processes of `latentd run` over a socket pair, with open file descriptors.

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes of the longest message.
const MOST: usize = 64 << 10;

/// Open files of one message at most.
pub(super) const FILES: usize = 4;

/// Sends a message, and files that the receiver gets its own descriptors of.
pub(super) fn send(socket: impl AsFd, message: &impl Serialize, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("too many files for a message"));
    }
    sendmsg(socket, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for a message; `None` when the other process is gone.
pub(super) fn receive<M: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    let mut text = vec![0; MOST];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let files = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    let files = files.flatten().collect();
    Ok(Some((serde_json::from_slice(&text[..received.bytes])?, files)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::io::{Read, Seek, Write};

    #[test]
    fn files_are_received_and_an_end_is_distinguished_from_a_message() {
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = pair.expect("a pair of sockets");
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"words").expect("room");
        send(&ours, &"a message", &[file.as_fd()]).expect("sent");
        send(&ours, &"and no file", &[]).expect("sent");
        drop(ours);
        let (text, mut files) = receive::<String>(&theirs).expect("read").expect("a message");
        assert_eq!((text.as_str(), files.len()), ("a message", 1));
        let mut same = std::fs::File::from(files.remove(0));
        same.rewind().expect("a file");
        let mut content = String::new();
        same.read_to_string(&mut content).expect("text");
        assert_eq!(content, "words");
        let (text, files) = receive::<String>(&theirs).expect("read").expect("a message");
        assert_eq!((text.as_str(), files.len()), ("and no file", 0));
        assert!(receive::<String>(&theirs).expect("read").is_none());
    }
}
