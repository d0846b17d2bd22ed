//! A proxy in front of the server under test, whose connections can be cut and whose answers can be held back.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// See the module. It ends with the test's process.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    lines: Arc<Mutex<Vec<TcpStream>>>,
    held: Arc<AtomicBool>,
}

impl Proxy {
    /// Begins to hand on what comes to a port of its own.
    pub(crate) fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let address = listener.local_addr().expect("it is bound");
        let (lines, held) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (kept, holding) = (Arc::clone(&lines), Arc::clone(&held));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(server).expect("the server under test is up");
                let mut kept = kept.lock().expect("no test panics while it holds the lines");
                kept.extend([copy(&client), copy(&server)]);
                drop(kept);
                let free = Arc::new(AtomicBool::new(false));
                let (there, back) = ((copy(&client), copy(&server)), (server, client));
                thread::spawn(move || hand_on(there.0, there.1, &free));
                let holding = Arc::clone(&holding);
                thread::spawn(move || hand_on(back.0, back.1, &holding));
            }
        });
        Self { address, lines, held }
    }

    pub(crate) fn url(&self) -> String {
        format!("amqp://{}", self.address)
    }

    /// Cuts every connection.
    pub(crate) fn cut(&self) {
        for line in self.lines.lock().expect("no test panics while it holds the lines").drain(..) {
            // One that is closed already is cut.
            let _closed = line.shutdown(Shutdown::Both);
        }
        self.held.store(false, Ordering::SeqCst);
    }

    /// Holds back what the server answers, until the next cut.
    pub(crate) fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
    }
}

fn copy(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a descriptor is left")
}

fn hand_on(mut from: TcpStream, mut to: TcpStream, held: &AtomicBool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        while held.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _closed = to.shutdown(Shutdown::Both);
}
