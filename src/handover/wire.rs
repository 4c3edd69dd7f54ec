//! What the two processes say to each other: a line of JSON each, and listening sockets beside one of them.
//!
//! Invariant: who is not this user, or root, is not heard.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};

use crate::store::Booking;

/// The version of what is said here. Processes of different ones can't follow each other.
pub const VERSION: u32 = 1;
/// The longest line.
const MAX_LINE: usize = 256 * 1024 * 1024;
/// How much is read at a time.
const PIECE: usize = 64 * 1024;
/// The most listening sockets.
const MAX_SOCKETS: usize = 16;

/// One thing that is said.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// A new process wants to follow this one; answered by `Sockets`.
    TakeOver {
        /// [`VERSION`] of the new process.
        version: u32,
    },
    /// The listening sockets lie beside this line.
    Sockets,
    /// Give the store away; answered by `Released`.
    Release,
    /// The store is closed.
    Released,
    /// The new process has the store and can serve; answered by `Go`.
    Opened(Addresses),
    /// The new process serves from now on.
    Go,
    /// The new process can't; the old one goes on.
    Failed {
        /// Why, for the operator.
        why: String,
    },
    /// No: whoever hears this changes nothing.
    Refused {
        /// Why, for the operator.
        why: String,
    },
    /// What the old process has to book; answered by `Booked` once it is on disk.
    Book {
        /// In the order they were booked.
        bookings: Vec<Booking>,
        /// They may have been sent before.
        again: bool,
    },
    /// The bookings are on disk.
    Booked,
    /// A user wants this program in the place of the running one; answered by `Replaced`.
    Replace {
        /// The program.
        program: PathBuf,
    },
    /// Another process serves now.
    Replaced {
        /// Which.
        process: u32,
    },
}

/// Where a process serves what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The API.
    pub data: SocketAddr,
    /// The admin API.
    pub admin: SocketAddr,
    /// Figures, if they are served.
    pub metrics: Option<SocketAddr>,
}

/// One end of a conversation.
pub struct Wire {
    stream: UnixStream,
    /// Bytes that came after the last line.
    unread: Vec<u8>,
    /// The number of the process at the other end.
    peer: u32,
}

impl Wire {
    /// Calls whoever listens at this path.
    pub fn connect(path: &Path) -> io::Result<Self> {
        Self::over(UnixStream::connect(path)?)
    }

    /// Takes a call. Errors: another user calls.
    pub fn over(stream: UnixStream) -> io::Result<Self> {
        let peer = rustix::net::sockopt::socket_peercred(&stream)?;
        if !peer.uid.is_root() && peer.uid != rustix::process::geteuid() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the other end is another user's"));
        }
        let peer = peer.pid.as_raw_nonzero().get().unsigned_abs();
        Ok(Self { stream, unread: Vec::new(), peer })
    }

    /// The number of the process that opened the other end.
    pub const fn peer(&self) -> u32 {
        self.peer
    }

    /// Says something.
    pub fn send(&mut self, message: &Message) -> io::Result<()> {
        self.stream.write_all(&line(message)?)
    }

    /// Hears something; waits no longer than this for each piece of it.
    pub fn receive(&mut self, patience: Option<Duration>) -> io::Result<Message> {
        self.stream.set_read_timeout(patience)?;
        let mut piece = vec![0; PIECE];
        loop {
            if let Some(message) = self.heard()? {
                return Ok(message);
            }
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.unread.extend(piece.iter().take(read)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Says `Sockets`, and gives these.
    pub fn send_sockets(&mut self, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !beside.push(SendAncillaryMessage::ScmRights(sockets)) {
            return Err(io::Error::other("more listening sockets than can be handed over"));
        }
        let line = line(&Message::Sockets)?;
        let sent = rustix::net::sendmsg(&self.stream, &[IoSlice::new(&line)], &mut beside, SendFlags::NOSIGNAL)?;
        self.stream.write_all(line.get(sent..).unwrap_or_default())
    }

    /// Hears something, and takes the sockets that lie beside it. Nothing else may have been heard before.
    pub fn receive_with_sockets(&mut self, patience: Duration) -> io::Result<(Message, Vec<OwnedFd>)> {
        self.stream.set_read_timeout(Some(patience))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut piece = [0; 1024];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let read =
            rustix::net::recvmsg(self.stream.as_fd(), &mut [IoSliceMut::new(&mut piece)], &mut beside, flags)?.bytes;
        let mut sockets = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(given) = message {
                sockets.extend(given);
            }
        }
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.unread.extend(piece.iter().take(read));
        Ok((self.receive(Some(patience))?, sockets))
    }

    /// The next whole line.
    fn heard(&mut self) -> io::Result<Option<Message>> {
        let Some(end) = memchr::memchr(b'\n', &self.unread) else {
            let too_long = self.unread.len() > MAX_LINE;
            return if too_long { Err(io::ErrorKind::InvalidData.into()) } else { Ok(None) };
        };
        let rest = self.unread.split_off(end + 1);
        let line = std::mem::replace(&mut self.unread, rest);
        Ok(Some(serde_json::from_slice(&line)?))
    }
}

fn line(message: &Message) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn pair() -> [Wire; 2] {
        let (one, other) = UnixStream::pair().unwrap();
        [one, other].map(|stream| Wire::over(stream).unwrap())
    }

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn lines_that_come_together_are_heard_one_by_one() {
        let [mut one, mut other] = pair();
        one.send(&Message::Release).unwrap();
        one.send(&Message::Failed { why: "a\nb".to_owned() }).unwrap();
        drop(one);
        assert!(matches!(other.receive(Some(PATIENCE)).unwrap(), Message::Release));
        assert!(matches!(other.receive(Some(PATIENCE)).unwrap(), Message::Failed { why } if why == "a\nb"));
        assert_eq!(other.receive(Some(PATIENCE)).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_socket_that_was_handed_over_still_listens_when_its_first_owner_is_gone() {
        let [mut one, mut other] = pair();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        one.send_sockets(&[listener.as_fd()]).unwrap();
        drop(listener);
        let (message, sockets) = other.receive_with_sockets(PATIENCE).unwrap();
        assert!(matches!(message, Message::Sockets));
        let [socket] = <[OwnedFd; 1]>::try_from(sockets).unwrap();
        let listener = TcpListener::from(socket);
        assert_eq!(listener.local_addr().unwrap(), address);
        std::net::TcpStream::connect(address).unwrap();
        listener.accept().unwrap();
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let [one, mut other] = pair();
        (&one.stream).write_all(b"{\"dance\":1}\n").unwrap();
        assert_eq!(other.receive(Some(PATIENCE)).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
