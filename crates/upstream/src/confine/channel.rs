//! Messages with open files between the supervisor and what it starts. The socket is the standard input
//! of the process that talks back, so that no number of a descriptor has to be agreed on.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

const LONGEST: usize = 4_096;

/// Makes the two ends.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends a message, with a file or without.
pub(super) fn send(to: impl AsFd, message: &impl Serialize, file: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut files = SendAncillaryBuffer::new(&mut space);
    let file = file.map(|file| [file]);
    if let Some(file) = &file
        && !files.push(SendAncillaryMessage::ScmRights(file))
    {
        return Err(io::Error::other("a file can't be handed over"));
    }
    sendmsg(to, &[IoSlice::new(&text)], &mut files, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for a message; an end without one is an error.
pub(super) fn receive<T: DeserializeOwned>(from: impl AsFd) -> io::Result<(T, Option<OwnedFd>)> {
    let mut text = [0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut files = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let length =
        rustix::io::retry_on_intr(|| recvmsg(&from, &mut [IoSliceMut::new(&mut text)], &mut files, flags))?
            .bytes;
    let file = files.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    let ended = || io::Error::new(io::ErrorKind::UnexpectedEof, "the other side has ended");
    let text = text.get(..length).filter(|text| !text.is_empty()).ok_or_else(ended)?;
    Ok((serde_json::from_slice(text)?, file))
}
