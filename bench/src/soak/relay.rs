//! The way to the database, which can be cut.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Failure;

/// Passes on whatever comes until it is cut. Dropped, it is gone.
pub(super) struct Relay {
    address: SocketAddr,
    cut: watch::Sender<bool>,
    _serving: JoinSet<()>,
}

impl Relay {
    /// Leads to a server.
    pub(super) fn start(runtime: &Runtime, target: String) -> Result<Self, Failure> {
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let (address, (cut, seen)) = (listener.local_addr()?, watch::channel(false));
        let mut serving = JoinSet::new();
        serving.spawn_on(serve(listener, target, seen), runtime.handle());
        Ok(Self { address, cut, _serving: serving })
    }

    /// Leads to the server that a URL names; returns the URL that goes this way instead.
    pub(super) fn to_server_of(runtime: &Runtime, url: &str) -> Result<(Self, String), Failure> {
        let unknown = "expected a URL such as postgres://user:password@127.0.0.1:5432/postgres";
        let (user, rest) = url.rsplit_once('@').ok_or(unknown)?;
        let (target, database) = rest.split_once('/').ok_or(unknown)?;
        let relay = Self::start(runtime, target.to_owned())?;
        let url = format!("{user}@{}/{database}", relay.address);
        Ok((relay, url))
    }

    /// Ends all connections, and every new one at once, or lets them through again.
    pub(super) fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}

async fn serve(listener: TcpListener, target: String, cut: watch::Receiver<bool>) {
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = open.join_next() => continue,
        };
        let Ok((client, _)) = accepted else { return };
        let (target, mut cut) = (target.clone(), cut.clone());
        open.spawn(async move {
            tokio::select! {
                biased;
                _ = cut.wait_for(|cut| *cut) => {}
                () = pass(client, &target) => {}
            }
        });
    }
}

async fn pass(mut client: TcpStream, target: &str) {
    // However a connection ends, both of its sides see it.
    if let Ok(mut server) = TcpStream::connect(target).await
        && let (Ok(()), Ok(())) = (client.set_nodelay(true), server.set_nodelay(true))
    {
        drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::Relay;

    #[test]
    fn what_is_cut_ends_and_comes_back() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("postgres://a:b@{}/c", server.local_addr().unwrap());
        let (relay, url) = Relay::to_server_of(&runtime, &url).unwrap();
        assert_eq!(url, format!("postgres://a:b@{}/c", relay.address));
        let greet = || {
            let mut client = TcpStream::connect(relay.address).unwrap();
            let mut served = server.accept().unwrap().0;
            client.write_all(b"hello").unwrap();
            served.read_exact(&mut [0; 5]).unwrap();
            client
        };
        let mut client = greet();
        relay.cut(true);
        assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
        let refused = TcpStream::connect(relay.address).and_then(|mut client| client.read(&mut [0]));
        assert_eq!(refused.unwrap_or(0), 0);
        relay.cut(false);
        greet();
    }
}
