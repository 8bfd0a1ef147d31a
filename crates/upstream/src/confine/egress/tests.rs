use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mcphub_domain::sandbox::HostRule;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::{CONNECTIONS, Destination, Egress, MOST_ADDRESSES, NoWay, Parent, connect_to_any, leads_back};

fn parsed(rules: &[&str]) -> Vec<HostRule> {
    rules.iter().map(|rule| rule.parse().unwrap()).collect()
}

/// Starts a proxy with these rules, and returns its address.
fn proxy(rules: &[&str], parent: Option<Parent>) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let egress = Egress::new(parsed(rules), parent);
    egress.tasks.clone().spawn(egress.serve(listener));
    address
}

/// Answers each request with its own first line and headers.
async fn mirror() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    TaskTracker::new().spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1024];
            let length = stream.read(&mut head).await.unwrap();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.write_all(&head[..length]).await.unwrap();
        }
    });
    port
}

/// Is a proxy beyond that keeps the first line of each request, and grants everything.
async fn recorder() -> (Parent, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let parent = Parent::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&lines);
    TaskTracker::new().spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1024];
            let length = stream.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..length]).into_owned();
            kept.lock().push(head.lines().next().unwrap_or_default().to_owned());
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        }
    });
    (parent, lines)
}

/// Asks for a tunnel and returns the code of the answer.
async fn tunnel(proxy: SocketAddr, to: &str) -> String {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    let connect = format!("CONNECT {to} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(connect.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    String::from_utf8_lossy(&head[9..]).into_owned()
}

async fn ask(proxy: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn plain(host: &str) -> String {
    format!(
        "GET http://{host}/x HTTP/1.1\r\nHost: other\r\nProxy-Authorization: Basic x\r\nConnection: close\r\n\r\n"
    )
}

#[tokio::test]
async fn only_what_is_listed_is_reached() {
    let port = mirror().await;
    let table: [(&[&str], &str, &str); 9] = [
        (&["*"], "127.0.0.1", "403"),
        (&["*"], "localhost", "403"),
        (&["*"], "[::ffff:127.0.0.1]", "403"),
        (&[], "127.0.0.1", "403"),
        (&["localhost:1"], "localhost", "403"),
        (&["localhost"], "localhost", "200"),
        (&["127.0.0.0/8"], "127.0.0.1", "200"),
        (&["0.0.0.0/0", "::/0"], "169.254.169.254", "403"),
        (&["*"], "10.0.0.1", "403"),
    ];
    for (rules, host, expected) in table {
        let proxy = proxy(rules, None);
        let answer = ask(proxy, &plain(&format!("{host}:{port}"))).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{rules:?} {host}: {answer}");
        if expected == "403" {
            let connect = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let answer = ask(proxy, &connect).await;
            assert!(answer.starts_with("HTTP/1.1 403"), "{rules:?} {host}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_request_goes_on_as_the_server_expects_it() {
    let port = mirror().await;
    let answer = ask(proxy(&["127.0.0.1"], None), &plain(&format!("127.0.0.1:{port}"))).await;
    assert!(answer.contains("\r\n\r\nGET /x HTTP/1.1\r\n"), "{answer}");
    assert!(answer.to_lowercase().contains(&format!("host: 127.0.0.1:{port}")), "{answer}");
    assert!(!answer.to_lowercase().contains("proxy-authorization"), "{answer}");
}

#[tokio::test]
async fn what_is_no_proxy_request_is_told_so() {
    let proxy = proxy(&["*"], None);
    for request in ["GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "nonsense\r\n\r\n"] {
        assert!(ask(proxy, request).await.starts_with("HTTP/1.1 400"), "{request}");
    }
}

#[tokio::test]
async fn a_tunnel_leads_through_the_proxy_beyond() {
    let port = mirror().await;
    let beyond = proxy(&["127.0.0.1"], None);
    let parent = || Parent::parse(&format!("http://a%20b:c@{beyond}")).unwrap();
    let through = proxy(&["127.0.0.1"], Some(parent()));
    let tunnel = format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut stream = TcpStream::connect(through).await.unwrap();
    stream.write_all(tunnel.as_bytes()).await.unwrap();
    let mut opened = Vec::new();
    while !opened.ends_with(b"\r\n\r\n") {
        opened.push(stream.read_u8().await.unwrap());
    }
    assert!(opened.starts_with(b"HTTP/1.1 200"));
    stream.write_all(b"GET /inside HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("GET /inside HTTP/1.1"), "{answer}");
    let answer = ask(through, &plain(&format!("127.0.0.1:{port}"))).await;
    assert!(answer.contains("GET /x HTTP/1.1"), "{answer}");
    // A name that it doesn't resolve itself is judged by its looks.
    let public = proxy(&["*"], Some(parent()));
    for (host, expected) in
        [("localhost", "403"), ("db.internal", "403"), ("127.0.0.1", "403"), ("a.example", "502")]
    {
        let connect = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = ask(public, &connect).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{host}: {answer}");
    }
}

#[tokio::test]
async fn no_spelling_of_an_address_passes_to_the_proxy_beyond() {
    let (parent, lines) = recorder().await;
    let proxy = proxy(&["*"], Some(parent));
    for host in
        ["127.1", "127.0.0.1.", "0x7f.0.0.1", "2130706433", "169.254.43518", "169.254.169.254.", "[::1]"]
    {
        assert_eq!(tunnel(proxy, &format!("{host}:80")).await, "403", "{host}");
        assert!(ask(proxy, &plain(host)).await.starts_with("HTTP/1.1 403"), "{host}");
    }
    for host in ["a.1", "256.256.256.256", "127.0.0.1.."] {
        assert_ne!(tunnel(proxy, &format!("{host}:80")).await, "200", "{host}");
    }
    assert!(lines.lock().is_empty(), "{:?}", lines.lock());
}

#[tokio::test]
async fn no_rule_opens_the_names_of_cloud_credentials() {
    let names = ["metadata.google.internal", "Metadata.Goog.", "instance-data", "instance-data.ec2.internal"];
    for name in names {
        let (parent, lines) = recorder().await;
        let rules = [name.trim_end_matches('.'), "*", "0.0.0.0/0"];
        for parent in [Some(parent), None] {
            assert_eq!(tunnel(proxy(&rules, parent), &format!("{name}:80")).await, "403", "{name}");
        }
        assert!(lines.lock().is_empty(), "{:?}", lines.lock());
    }
}

#[tokio::test]
async fn the_proxy_beyond_is_asked_for_what_was_judged() {
    let (parent, lines) = recorder().await;
    let proxy = proxy(&["*"], Some(parent));
    for host in ["[2606:4700:4700:0::1111]:443", "A.Example.:443", "8.526344:443"] {
        assert_eq!(tunnel(proxy, host).await, "200", "{host}");
    }
    ask(proxy, &plain("user@A.Example")).await;
    let expected = [
        "CONNECT [2606:4700:4700::1111]:443 HTTP/1.1",
        "CONNECT a.example:443 HTTP/1.1",
        "CONNECT 8.8.8.8:443 HTTP/1.1",
        "GET http://a.example/x HTTP/1.1",
    ];
    assert_eq!(*lines.lock(), expected);
}

#[tokio::test]
async fn a_name_that_no_rule_is_about_is_not_looked_up() {
    // Looking it up would fail, with another answer.
    let lists: [&[&str]; 4] = [&[], &["b.invalid"], &["a.invalid:443", "*:443"], &["10.0.0.0/8", "::/0"]];
    for rules in lists {
        assert_eq!(tunnel(proxy(rules, None), "secret.a.invalid:80").await, "403", "{rules:?}");
    }
    assert_eq!(tunnel(proxy(&["*.a.invalid"], None), "secret.a.invalid:80").await, "502");
}

#[tokio::test]
async fn where_a_name_leads_is_not_told() {
    let answer = ask(proxy(&["*"], None), &plain("localhost:80")).await;
    assert!(answer.contains("localhost:80 is not among"), "{answer}");
    assert!(!answer.contains("127.0.0.1") && !answer.contains("::1"), "{answer}");
}

#[test]
fn the_owner_of_a_listed_name_opens_nothing_inside() {
    let table: [(&[&str], &str, bool); 6] = [
        (&["api.example"], "8.8.8.8", true),
        (&["api.example"], "127.0.0.1", false),
        (&["api.example", "localhost"], "127.0.0.1", false),
        (&["api.example"], "10.0.0.1", false),
        (&["api.example", "10.0.0.0/8:443"], "10.0.0.1", true),
        (&["api.example", "10.0.0.0/8:80"], "10.0.0.1", false),
    ];
    let to = Destination::read(&"api.example:443".parse().unwrap(), None).unwrap();
    for (rules, address, expected) in table {
        let egress = Egress::new(parsed(rules), None);
        let judged = egress.judge(&to, Some(address.parse().unwrap()));
        assert_eq!(judged.is_ok(), expected, "{rules:?} {address}");
    }
}

#[tokio::test]
async fn a_connection_from_the_loopback_stays_on_the_machine() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for address in ["127.0.0.1", "127.0.0.2"] {
        let stream = TcpStream::connect((address, port)).await.unwrap();
        assert!(leads_back(&stream).unwrap(), "{address}");
    }
}

#[tokio::test]
async fn so_many_addresses_of_a_name_are_tried_and_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open = listener.local_addr().unwrap();
    // Nobody listens there.
    let closed = SocketAddr::from(([127, 0, 0, 2], open.port()));
    for (before, good) in [(MOST_ADDRESSES - 1, true), (MOST_ADDRESSES, false)] {
        let connected = connect_to_any(&[vec![closed; before], vec![open]].concat()).await;
        assert!(
            matches!((connected, good), (Ok(_), true) | (Err(NoWay::Failed(_)), false)),
            "behind {before}"
        );
    }
}

#[tokio::test]
async fn a_tunnel_keeps_its_place_until_it_ends() {
    let quiet = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connect = format!("CONNECT {} HTTP/1.1\r\nHost: x\r\n\r\n", quiet.local_addr().unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let egress = Egress::new(parsed(&["127.0.0.1"]), None);
    assert_eq!(egress.places.available_permits(), CONNECTIONS);
    let egress = Egress { places: Arc::new(Semaphore::new(2)), ..Arc::into_inner(egress).unwrap() };
    TaskTracker::new().spawn(Arc::new(egress).serve(listener));
    let mut tunnels = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(connect.as_bytes()).await.unwrap();
        tunnels.push(stream);
    }
    let mut third = tunnels.pop().unwrap();
    for open in &mut tunnels {
        assert_eq!(open.read_u8().await.unwrap(), b'H');
    }
    timeout(Duration::from_millis(300), third.read_u8()).await.unwrap_err();
    drop(tunnels.pop());
    drop(quiet.accept().await);
    drop(quiet.accept().await);
    assert_eq!(timeout(Duration::from_secs(10), third.read_u8()).await.unwrap().unwrap(), b'H');
}
