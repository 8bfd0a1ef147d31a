//! A wire between the hub and its database, or a server, that a test can cut, hold up, or lead elsewhere.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use url::Url;

use super::Installation;

/// Says what becomes of what comes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wire {
    /// It arrives.
    Whole,
    /// It is taken and never arrives.
    Silent,
    /// It is refused, and what was open is closed.
    Cut,
}

/// Is a running relay; its threads end with the connections and the process.
pub(crate) struct Relay {
    address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

struct State {
    wire: Wire,
    target: SocketAddr,
    open: Vec<TcpStream>,
}

impl Relay {
    /// Stands between an installation and its PostgreSQL from here on.
    pub(crate) fn before(installation: &mut Installation) -> Self {
        let url = Url::parse(installation.variable("MCPHUB_DATABASE__URL").unwrap()).unwrap();
        let relay = Self::to(format!("{}:{}", url.host_str().unwrap(), url.port().unwrap()).parse().unwrap());
        for variable in ["MCPHUB_DATABASE__URL", "MCPHUB_DATABASE__WORKER_URL"] {
            let mut url = Url::parse(installation.variable(variable).unwrap()).unwrap();
            url.set_port(Some(relay.address.port())).unwrap();
            installation.set(variable, url.as_str());
        }
        relay
    }

    /// Stands before an address.
    pub(crate) fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let state = State { wire: Wire::Whole, target, open: Vec::new() };
        let relay = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new((Mutex::new(state), Condvar::new())),
        };
        let state = Arc::clone(&relay.state);
        thread::spawn(move || listener.incoming().for_each(|stream| take(stream.unwrap(), &state)));
        relay
    }

    /// Is where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does something to the wire, and to everything that is open.
    pub(crate) fn make(&self, wire: Wire) {
        let mut state = self.state.0.lock().unwrap();
        state.wire = wire;
        if wire == Wire::Cut {
            state.open.drain(..).for_each(close);
        }
        self.state.1.notify_all();
    }

    /// Leads to another address from here on; what was open is closed.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        let mut state = self.state.0.lock().unwrap();
        state.target = target;
        state.wire = Wire::Whole;
        state.open.drain(..).for_each(close);
        self.state.1.notify_all();
    }
}

fn take(client: TcpStream, state: &Arc<(Mutex<State>, Condvar)>) {
    let target = {
        let state = state.0.lock().unwrap();
        if state.wire == Wire::Cut {
            return close(client);
        }
        state.target
    };
    let Ok(server) = TcpStream::connect(target) else { return close(client) };
    for (from, to) in [(&client, &server), (&server, &client)] {
        let (from, to, state) = (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(state));
        thread::spawn(move || carry(from, to, &state));
    }
    state.0.lock().unwrap().open.extend([client, server]);
}

fn carry(mut from: TcpStream, mut to: TcpStream, (state, changed): &(Mutex<State>, Condvar)) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let count = match from.read(&mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        drop(changed.wait_while(state.lock().unwrap(), |state| state.wire == Wire::Silent).unwrap());
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    close(from);
    close(to);
}

fn close(stream: TcpStream) {
    match stream.shutdown(Shutdown::Both) {
        Err(error) if error.kind() != ErrorKind::NotConnected => panic!("{error}"),
        _ => {}
    }
}
