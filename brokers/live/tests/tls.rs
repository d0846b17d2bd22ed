//! TLS of either driver against servers of this test's own: what is verified, what each failure says, and that bytes arrive in order.
//!
//! Real servers are in `kafka_tls` and `amqp_tls`.
#![cfg(all(feature = "tls", feature = "kafka", feature = "amqp"))]
#![allow(clippy::unwrap_used, reason = "a test that can not go on fails there")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use brokerlab_live::socket::Socket;
use brokerlab_live::tls::{Security, Target};
use brokerlab_live::{LiveUrl, OpenError, Trouble, UrlError, examine};
use brokerlab_model::{Contract, Settings};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// An authority with its certificate in a file.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        Self::named("an authority of a test")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `tls.ca=` of it.
    fn ca(&self) -> String {
        format!("tls.ca={}", self.file("ca.pem").display())
    }

    fn certificate(&self, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        (CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A client's certificate and key, as parameters of a URL.
    fn client(&self) -> String {
        let (certificate, key) = self.certificate(&["a client"]);
        std::fs::write(self.file("client.pem"), certificate.pem()).unwrap();
        std::fs::write(self.file("client.key"), key.serialize_pem()).unwrap();
        format!("tls.cert={}&tls.key={}", self.file("client.pem").display(), self.file("client.key").display())
    }

    /// What a server with a certificate for these names goes by; `clients` has it ask for theirs.
    fn server(&self, names: &[&str], clients: bool) -> Arc<ServerConfig> {
        let (certificate, key) = self.certificate(names);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = builder.unwrap();
        let builder = if clients {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Arc::new(builder.with_single_cert(vec![certificate.der().clone()], key).unwrap())
    }
}

type Secured = StreamOwned<ServerConnection, TcpStream>;

/// Serves every connection by `then`, which may fail as it likes.
fn serve(config: Arc<ServerConfig>, then: impl Fn(Secured) -> std::io::Result<()> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            // A client that refuses the handshake is one of the cases.
            let _served = then(StreamOwned::new(connection, stream.unwrap()));
        }
    });
    address
}

/// A server that reads once and says this.
fn saying(config: Arc<ServerConfig>, answer: &'static [u8]) -> SocketAddr {
    serve(config, |mut stream| {
        let _request = stream.read(&mut [0; 1_024])?;
        stream.write_all(answer)?;
        stream.conn.send_close_notify();
        stream.flush()
    })
}

fn trouble(url: &str) -> Trouble {
    match examine(&LiveUrl::parse(url).unwrap(), Contract::default()) {
        Err(OpenError::Trouble { trouble, .. }) => trouble,
        other => panic!("{url}: {other:?}"),
    }
}

/// What an examination by either driver says of this server.
fn by_both(address: SocketAddr, parameters: &str) -> [Trouble; 2] {
    ["kafka+tls", "amqps"].map(|scheme| trouble(&format!("{scheme}://{address}?{parameters}")))
}

#[test]
fn a_verified_server_is_heard() {
    let authority = Authority::new();
    let address = saying(authority.server(&["127.0.0.1"], false), b"HTTP/1.1 400 Bad Request\r\n\r\n");
    for found in by_both(address, &authority.ca()) {
        let Trouble::OtherProtocol { protocol: "Kafka" | "AMQP 0-9-1", found } = found else { panic!("{found:?}") };
        assert!(found.contains("HTTP/1.1 400"), "what came went through TLS: {found}");
    }
}

#[test]
fn an_authority_that_is_not_trusted_is_refused_with_the_way_to_trust_it() {
    let authority = Authority::named("one");
    let address = saying(authority.server(&["127.0.0.1"], false), b"");
    for (other, shown) in [("another", "of no authority that is trusted here"), ("one", "has not signed")] {
        for found in by_both(address, &Authority::named(other).ca()) {
            assert!(matches!(&found, Trouble::Tls { .. }), "{found:?}");
            let text = found.to_string();
            assert!(text.contains(shown) && text.contains("?tls.ca=FILE"), "{text}");
        }
    }
}

#[test]
fn a_certificate_of_another_name_is_refused_unless_that_name_is_given() {
    let authority = Authority::new();
    let address = saying(authority.server(&["broker.example"], false), b"HTTP/1.1");
    for found in by_both(address, &authority.ca()) {
        assert!(matches!(&found, Trouble::Tls { .. }), "{found:?}");
        let text = found.to_string();
        assert!(text.contains("`127.0.0.1`") && text.contains("?tls.server.name=NAME"), "{text}");
    }
    for found in by_both(address, &format!("{}&tls.server.name=broker.example", authority.ca())) {
        assert!(matches!(&found, Trouble::OtherProtocol { found, .. } if found.contains("HTTP/1.1")), "{found:?}");
    }
}

#[test]
fn a_server_that_asks_for_a_certificate_gets_it_or_says_so() {
    let authority = Authority::new();
    let address = saying(authority.server(&["127.0.0.1"], true), b"HTTP/1.1");
    for found in by_both(address, &authority.ca()) {
        assert!(matches!(&found, Trouble::Tls { .. }), "{found:?}");
        let text = found.to_string();
        assert!(text.contains("CertificateRequired") && text.contains("?tls.cert=FILE&tls.key=FILE"), "{text}");
    }
    for found in by_both(address, &format!("{}&{}", authority.ca(), authority.client())) {
        assert!(matches!(&found, Trouble::OtherProtocol { found, .. } if found.contains("HTTP/1.1")), "{found:?}");
    }
}

/// A server in the open that reads once, says this and ends.
fn in_the_open(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _read = stream.read(&mut [0; 4_096]).unwrap();
            stream.write_all(answer).unwrap();
        }
    });
    address
}

#[test]
fn a_server_in_the_open_is_told_apart() {
    for (answer, shown) in
        [(b"AMQP\0\0\x09\x01".as_slice(), "in the open: \"AMQP"), (b"".as_slice(), "instead of a handshake")]
    {
        for found in by_both(in_the_open(answer), "") {
            let Trouble::OtherProtocol { protocol: "TLS", found } = found else { panic!("{found:?}") };
            assert!(found.contains(shown), "{found}");
        }
    }
}

#[test]
fn a_server_with_tls_behind_a_scheme_without_is_told_apart() {
    let authority = Authority::new();
    let address = saying(authority.server(&["127.0.0.1"], false), b"");
    for (scheme, due) in [("kafka", "write kafka+tls://"), ("amqp", "write amqps://")] {
        let found = trouble(&format!("{scheme}://{address}"));
        assert!(matches!(&found, Trouble::OtherProtocol { found, .. } if found.contains(due)), "{found:?}");
    }
}

#[test]
fn parameters_are_checked_before_anybody_is_asked() {
    let authority = Authority::new();
    let (client, other) = (authority.client(), Authority::new());
    let (_, key) = other.certificate(&["another"]);
    std::fs::write(authority.file("other.key"), key.serialize_pem()).unwrap();
    let cert = client.split('&').next().unwrap();
    let other = authority.file("other.key");
    let wrong = [
        ("tls.ca=/no/such/file".to_owned(), "tls.ca"),
        (format!("tls.ca={}", other.display()), "tls.ca"),
        (cert.to_owned(), "tls.cert"),
        (format!("tls.key={}", other.display()), "tls.key"),
        (format!("{cert}&tls.key={}", authority.file("ca.pem").display()), "tls.key"),
        (format!("{cert}&tls.key={}", other.display()), "tls.key"),
    ];
    for (parameters, named) in wrong {
        let url = LiveUrl::parse(&format!("amqps://127.0.0.1:1?{parameters}")).unwrap();
        let error = examine(&url, Contract::default()).unwrap_err();
        assert!(matches!(&error, OpenError::Url(UrlError::Value { key, .. }) if key == named), "{parameters}: {error}");
        let secret = key.serialize_pem();
        let secret = secret.lines().nth(1).unwrap();
        assert!(!error.to_string().contains(secret), "what the key's file holds is told: {error}");
    }
    assert!(matches!(LiveUrl::parse("kafka://h?tls.ca=f"), Err(UrlError::Value { .. })), "not in the open");
    assert!(matches!(LiveUrl::parse("amqps://h?tls.ca=f&tls.ca=f"), Err(UrlError::Value { .. })), "not twice");
    for scheme in ["kafka+tls", "amqps"] {
        let url = LiveUrl::parse(&format!("{scheme}://127.0.0.1:1?tls.insecure=true")).unwrap();
        let error = examine(&url, Contract::default()).unwrap_err();
        assert!(error.to_string().contains("tls.server.name"), "what there is is listed: {error}");
    }
}

/// Sends back whatever comes, in small records and large ones.
fn echo(mut stream: Secured) -> std::io::Result<()> {
    let mut buffer = vec![0; 100_000];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..read])?;
    }
}

#[test]
fn millions_of_bytes_go_through_both_ways_and_nothing_stays_inside() {
    const BYTES: usize = 3_000_000;
    let authority = Authority::new();
    let address = serve(authority.server(&["127.0.0.1"], false), echo);
    let url = LiveUrl::parse(&format!("amqps://{address}?{}", authority.ca())).unwrap();
    let security = Security::of(&url).unwrap();
    let target = Target { address, host: "127.0.0.1".to_owned(), security: security.clone() };
    let mut socket = Socket::connect(&target).unwrap();
    let sent: Vec<u8> = (0..BYTES as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    socket.out().extend_from_slice(&sent[..1_000]);
    while !socket.is_connected() || socket.unwritten() > 0 {
        socket.push().unwrap();
    }
    for piece in sent[1_000..].chunks(70_001).map(bytes::Bytes::copy_from_slice) {
        socket.send(piece);
    }
    assert_eq!((socket.unwritten(), socket.untouched()), (BYTES - 1_000, BYTES - 1_000));
    let mut got = Vec::with_capacity(50);
    while got.len() < BYTES {
        socket.push().unwrap();
        // Whatever is not handed over is the kernel's to tell of: rustix's poll is what a host sleeps on.
        let mut fds = [rustix::event::PollFd::from_borrowed_fd(socket.wait_on_fd(), rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
        if socket.unwritten() == 0 {
            assert_eq!(rustix::event::poll(&mut fds, Some(&limit)).unwrap(), 1, "{} came", got.len());
        }
        got.reserve(50);
        socket.receive(&mut got).unwrap();
    }
    assert!(got == sent, "the same bytes in the same order");
    assert!(!socket.wants_write() && socket.untouched() == 0);
    let mut settings = Settings::default();
    security.unwrap().in_force(&mut settings);
    let named = |key: &str| settings.0.iter().find(|setting| setting.name == key).map(|setting| setting.value.clone());
    assert_eq!(named("tls.version").as_deref(), Some("1.3"));
    assert!(named("tls.cipher.suite").unwrap().starts_with("TLS13_"));
    assert!(named("tls.ca").unwrap().ends_with("ca.pem"));
}
