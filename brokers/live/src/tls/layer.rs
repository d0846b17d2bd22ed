//! One connection's TLS between the socket's buffers and the kernel.
//!
//! rustls keeps ciphertext that the kernel did not take; what it decrypts is handed on at once, so that it never holds a byte that
//! somebody sleeps over. Leaves out the buffers, and when to read and write.

use std::io::{self, BufRead, IoSlice, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConnection, Error};

use super::{Broken, Security, Target};
use crate::open::Trouble;

/// As much ciphertext is read at once, at the most.
const READ_AT_ONCE: usize = 256 << 10;
/// The longest record: read this much beyond what is wanted, and one record more at the least is whole.
const RECORD: usize = (16 << 10) + 2_048 + 5;
/// As much of a handshake is read at once.
const HANDSHAKE_AT_ONCE: usize = 16 << 10;
/// As much ciphertext waits for the kernel, about.
const SEALED_AT_ONCE: usize = 256 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct Layer {
    connection: ClientConnection,
    security: Arc<Security>,
    host: String,
    /// Room for ciphertext; empty until something comes after the handshake.
    incoming: Vec<u8>,
    /// What a server said at once after the handshake, until it is asked for.
    early: Vec<u8>,
    /// Plaintext bytes in what the kernel did not take yet.
    sealed: usize,
    /// How what came first begins.
    began: Vec<u8>,
}

impl Layer {
    /// Of a connection that is to be secured; none of another.
    pub(crate) fn new(target: &Target) -> io::Result<Option<Box<Self>>> {
        let Some(security) = &target.security else { return Ok(None) };
        let host = security.parameters.server_name.as_ref().unwrap_or(&target.host).clone();
        let invalid = |_| {
            let remedy = "name the server as its certificate does, with ?tls.server.name=NAME";
            Broken(Trouble::Tls { found: format!("`{host}` is no name that a certificate can have"), remedy })
        };
        let name = ServerName::try_from(host.clone()).map_err(invalid)?;
        let connection = ClientConnection::new(Arc::clone(&security.config), name);
        let mut connection = connection.map_err(|error| failure(&error, &host))?;
        connection.set_buffer_limit(Some(SEALED_AT_ONCE));
        Ok(Some(Box::new(Self {
            connection,
            security: Arc::clone(security),
            host,
            incoming: Vec::new(),
            early: Vec::new(),
            sealed: 0,
            began: Vec::new(),
        })))
    }

    /// Goes on with the handshake; returns whether it is done.
    pub(crate) fn step(&mut self, mut stream: &TcpStream) -> io::Result<bool> {
        while self.flush(stream)? {
            if !self.connection.is_handshaking() {
                self.note_what_was_agreed();
                return Ok(true);
            }
            let mut incoming = [0; HANDSHAKE_AT_ONCE];
            let read = match stream.read(&mut incoming) {
                Ok(read) => read,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    return Ok(false);
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
                Err(error) => return Err(error),
            };
            if read == 0 {
                return Err(ended().into());
            }
            if self.began.is_empty() {
                self.began.extend_from_slice(&incoming[..read.min(40)]);
            }
            let mut early = std::mem::take(&mut self.early);
            let result = self.decrypt(&incoming[..read], stream, &mut early);
            self.early = early;
            result?;
        }
        Ok(false)
    }

    fn note_what_was_agreed(&self) {
        let version = self.connection.protocol_version().map(|version| format!("{version:?}").replace("TLSv1_", "1."));
        let suite = self.connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
        self.security.agreed.get_or_init(|| (version.unwrap_or_default(), suite.unwrap_or_default()));
    }

    /// Whether ciphertext waits for the kernel.
    pub(crate) fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Plaintext bytes of which at least some ciphertext waits for the kernel.
    pub(crate) fn sealed(&self) -> usize {
        self.sealed
    }

    /// Encrypts as much of this as there is room for. Returns how much that was.
    pub(crate) fn seal(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let sealed = self.connection.writer().write_vectored(slices)?;
        self.sealed += sealed;
        Ok(sealed)
    }

    /// Writes what the kernel takes; returns whether nothing is left.
    pub(crate) fn flush(&mut self, mut stream: &TcpStream) -> io::Result<bool> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut stream) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.sealed = 0;
        Ok(true)
    }

    /// Reads once, and appends everything that can be decrypted: one record more than there is room for, at the most. Returns how many
    /// bytes were appended. The end of the connection is an error.
    pub(crate) fn receive(&mut self, mut stream: &TcpStream, into: &mut Vec<u8>) -> io::Result<usize> {
        let before = into.len();
        into.append(&mut self.early);
        let closed = self.hand_on(into)?;
        if closed && into.len() == before {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let limit = (into.capacity() - into.len() + RECORD).min(READ_AT_ONCE);
        let mut incoming = std::mem::take(&mut self.incoming);
        incoming.resize(READ_AT_ONCE, 0);
        let result = match stream.read(&mut incoming[..limit]) {
            Ok(0) if into.len() == before => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => self.decrypt(&incoming[..read], stream, into),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(error),
        };
        self.incoming = incoming;
        result.map(|()| into.len() - before)
    }

    /// Decrypts all of this but the beginning of a record that is not whole yet, which stays inside.
    fn decrypt(&mut self, mut incoming: &[u8], stream: &TcpStream, into: &mut Vec<u8>) -> io::Result<()> {
        while !incoming.is_empty() && self.connection.wants_read() {
            self.connection.read_tls(&mut incoming)?;
            if let Err(error) = self.connection.process_new_packets() {
                // The server is told why, if it still listens.
                let _told = self.flush(stream);
                return Err(self.failed(&error).into());
            }
            self.hand_on(into)?;
        }
        Ok(())
    }

    /// Appends what is decrypted; returns whether the server has said that nothing more comes.
    fn hand_on(&mut self, into: &mut Vec<u8>) -> io::Result<bool> {
        let mut reader = self.connection.reader();
        loop {
            let length = match reader.fill_buf() {
                Ok([]) => return Ok(true),
                Ok(chunk) => {
                    into.extend_from_slice(chunk);
                    chunk.len()
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
            reader.consume(length);
        }
    }

    fn failed(&self, error: &Error) -> Broken {
        let is_record = matches!(self.began.as_slice(), [20..=23, 3, ..]);
        if self.connection.is_handshaking() && !is_record && matches!(error, Error::InvalidMessage(_)) {
            let text = String::from_utf8_lossy(&self.began).escape_debug().to_string();
            let found = format!("it answers in the open: \"{text}\"");
            return Broken(Trouble::OtherProtocol { protocol: "TLS", found });
        }
        failure(error, &self.host)
    }
}

fn ended() -> Broken {
    let found = "it ends the connection instead of a handshake; it may be one without TLS".to_owned();
    Broken(Trouble::OtherProtocol { protocol: "TLS", found })
}

/// What an error of rustls means to whoever wrote the URL.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "rustls's errors grow, and those without a remedy of their own speak for themselves"
)]
fn failure(error: &Error, host: &str) -> Broken {
    const AUTHORITY: &str = "name the authority's certificate with ?tls.ca=FILE";
    const NAME: &str = "name the server as its certificate does, in the URL or with ?tls.server.name=NAME";
    const CLIENT: &str = "show a certificate that it accepts, with ?tls.cert=FILE&tls.key=FILE";
    const CLOCK: &str = "renew the server's certificate, or set this machine's clock";
    const OTHER: &str = "TLS 1.2 and 1.3 are spoken here; look at the server's settings and log";
    let (found, remedy) = match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            ("the server's certificate is of no authority that is trusted here".to_owned(), AUTHORITY)
        }
        // Another key than that of the authority of this name.
        Error::InvalidCertificate(CertificateError::BadSignature) => {
            ("the authority that is trusted here has not signed the server's certificate".to_owned(), AUTHORITY)
        }
        Error::InvalidCertificate(
            reason @ (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }),
        ) => (format!("the server's certificate is not that of `{host}`: {reason}"), NAME),
        Error::InvalidCertificate(
            reason @ (CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }),
        ) => (format!("the server's certificate is not valid now: {reason}"), CLOCK),
        Error::AlertReceived(
            alert @ (AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied),
        ) => (format!("the server refuses this client: {alert:?}"), CLIENT),
        other => (other.to_string(), OTHER),
    };
    Broken(Trouble::Tls { found, remedy })
}
