//! Connections to servers that keep them open, and to some that don't.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderMap, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{
    Arc, Body, BoxError, Bytes, Destination, Dialer, HttpRequest, Lines, MOST_INTERIM, POOL_IDLE, sleep,
};
use crate::settings::PlainHttp;

const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Is a server that counts connections and requests, and says something to each; then it goes on,
/// or hangs up.
struct Server {
    listener: TcpListener,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, connections: Arc::default(), requests: Arc::default() }
    }

    /// Serves for ever what `says` has for the request of this number; nothing hangs up.
    async fn serve(&self, says: fn(usize) -> &'static str) {
        loop {
            let (mut stream, _) = self.listener.accept().await.unwrap();
            self.connections.fetch_add(1, Ordering::Relaxed);
            while heard(&mut stream).await {
                let text = says(self.requests.fetch_add(1, Ordering::Relaxed));
                if text.is_empty() || stream.write_all(text.as_bytes()).await.is_err() {
                    break;
                }
            }
        }
    }

    fn counts(&self) -> (usize, usize) {
        (self.connections.load(Ordering::Relaxed), self.requests.load(Ordering::Relaxed))
    }

    /// Asks on lines of its own so often, and returns what came.
    async fn asked(&self, times: usize, says: fn(usize) -> &'static str) -> Vec<String> {
        let lines = lines();
        let asking = async {
            let mut came = Vec::new();
            for _ in 0..times {
                came.push(match ask(&lines, self).await {
                    Ok(body) => read(body).await,
                    Err(error) => error.to_string(),
                });
            }
            came
        };
        tokio::select! {
            () = self.serve(says) => unreachable!("it serves for ever"),
            came = asking => came,
        }
    }
}

/// Reads a request that ends with its head; says whether one came.
async fn heard(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return false,
        }
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("GET /mcp?a=1 HTTP/1.1\r\n"), "{head}");
    assert_eq!(head.matches("host: localhost:").count(), 1, "{head}");
    true
}

fn lines() -> Arc<Lines> {
    Arc::new(Lines::new(Dialer { networks: [].into(), plain_http: PlainHttp::LoopbackOnly }))
}

async fn ask(lines: &Arc<Lines>, server: &Server) -> Result<Body, BoxError> {
    send(lines, server, Method::GET, Bytes::new()).await
}

async fn send(lines: &Arc<Lines>, server: &Server, method: Method, body: Bytes) -> Result<Body, BoxError> {
    let url = format!("http://localhost:{}/mcp?a=1", server.listener.local_addr().unwrap().port());
    let destination = Destination::new(&url, HeaderMap::new(), Vec::new()).unwrap();
    let request = HttpRequest { destination: &destination, method, headers: Vec::new(), body };
    Ok(lines.send(&request).await?.into_body())
}

async fn read(mut body: Body) -> String {
    let mut text = String::new();
    while let Some(piece) = body.next().await {
        match piece {
            Ok(piece) => text += std::str::from_utf8(&piece).unwrap(),
            Err(error) => text += &error.to_string(),
        }
    }
    text
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let server = Server::start().await;
    assert_eq!(server.asked(20, |_| ANSWER).await, ["ok"; 20]);
    assert_eq!(server.counts(), (1, 20));
}

#[tokio::test]
async fn a_connection_is_used_again_after_a_body_in_chunks() {
    let server = Server::start().await;
    let chunks = |_| "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n";
    assert_eq!(server.asked(5, chunks).await, ["ok"; 5]);
    assert_eq!(server.counts(), (1, 5));
}

#[tokio::test]
async fn what_follows_an_answer_is_never_taken_for_the_next() {
    let server = Server::start().await;
    let two =
        |_| "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno";
    assert_eq!(server.asked(3, two).await, ["ok"; 3]);
    assert_eq!(server.counts(), (3, 3));
}

#[tokio::test]
async fn heads_that_announce_the_answer_are_passed_over() {
    let server = Server::start().await;
    let some = |_| "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    assert_eq!(server.asked(3, some).await, ["ok"; 3]);
    assert_eq!(server.counts(), (1, 3));
    let switched = server.asked(1, |_| "HTTP/1.1 101 Switching Protocols\r\n\r\n").await;
    assert!(switched[0].contains("a protocol that nobody asked for"), "{switched:?}");
}

#[tokio::test]
async fn so_many_heads_announce_an_answer_and_no_more() {
    let server = Server::start().await;
    let many = |more: usize| {
        let heads = "HTTP/1.1 102 Processing\r\n\r\n".repeat(MOST_INTERIM as usize + more);
        &*Box::leak((heads + ANSWER).into_boxed_str())
    };
    let came = server.asked(2, many).await;
    assert_eq!(came[0], "ok");
    assert!(came[1].contains("again and again"), "{came:?}");
}

#[tokio::test]
async fn an_answer_that_comes_before_the_request_is_read_counts() {
    let (server, lines) = (Server::start().await, lines());
    let large = Bytes::from(vec![b'x'; 64 << 20]);
    let (asked, ()) = tokio::join!(send(&lines, &server, Method::POST, large), async {
        let (mut stream, _) = server.listener.accept().await.unwrap();
        stream.read_u8().await.unwrap();
        stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
        // It stays open, and takes no more.
        std::mem::forget(stream);
    });
    assert_eq!(read(asked.unwrap()).await, "no");
    assert!(lines.resting.lock().lines.is_empty(), "a half-sent request leaves no connection to be used");
}

#[tokio::test]
async fn a_success_that_comes_early_is_still_sent_the_rest() {
    let (server, lines) = (Server::start().await, lines());
    const LENGTH: usize = 64 << 20;
    let large = Bytes::from(vec![b'x'; LENGTH]);
    let asked = async { read(send(&lines, &server, Method::POST, large).await.unwrap()).await };
    let (answer, heard) = tokio::join!(asked, async {
        let (mut stream, _) = server.listener.accept().await.unwrap();
        stream.read_u8().await.unwrap();
        stream.write_all(ANSWER.as_bytes()).await.unwrap();
        let (mut heard, mut buffer) = (0, vec![0; 1 << 20]);
        while heard < LENGTH {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(length) => heard += length,
            }
        }
        heard
    });
    assert_eq!((answer.as_str(), heard >= LENGTH), ("ok", true));
    assert_eq!(lines.resting.lock().lines.len(), 1, "everything was sent and read");
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_read() {
    let (server, lines) = (Server::start().await, lines());
    let asked = async { read(ask(&lines, &server).await.unwrap()).await };
    let (answer, _stream) = tokio::join!(asked, async {
        let (mut stream, _) = server.listener.accept().await.unwrap();
        assert!(heard(&mut stream).await);
        stream.set_nodelay(true).unwrap();
        for byte in "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".bytes() {
            stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        stream
    });
    assert_eq!(answer, "ok");
}

#[tokio::test]
async fn a_connection_that_the_server_closes_is_replaced() {
    let server = Server::start().await;
    let closing = |_| "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
    assert_eq!(server.asked(3, closing).await, ["ok"; 3]);
    assert_eq!(server.counts(), (3, 3));
}

#[tokio::test]
async fn a_request_that_may_have_been_taken_is_not_sent_again() {
    let server = Server::start().await;
    let came = server.asked(3, |number| if number == 1 { "" } else { ANSWER }).await;
    assert_eq!((came[0].as_str(), came[2].as_str()), ("ok", "ok"));
    assert_ne!(came[1], "ok");
    assert_eq!(server.counts(), (2, 3), "the second was sent once, though on a connection that had rested");
}

#[tokio::test]
async fn an_answer_that_is_not_read_closes_its_connection() {
    let (server, lines) = (Server::start().await, lines());
    let half = |_| "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";
    let asking = async {
        for number in 1..4 {
            drop(ask(&lines, &server).await.unwrap());
            assert_eq!(server.counts(), (number, number));
        }
    };
    tokio::select! {
        () = server.serve(half) => unreachable!("it serves for ever"),
        () = asking => {}
    }
}

#[tokio::test]
async fn what_rests_for_too_long_is_closed() {
    let (server, lines) = (Server::start().await, lines());
    let (asked, mut stream) = tokio::join!(ask(&lines, &server), async {
        let (mut stream, _) = server.listener.accept().await.unwrap();
        assert!(heard(&mut stream).await);
        stream.write_all(ANSWER.as_bytes()).await.unwrap();
        stream
    });
    assert_eq!(read(asked.unwrap()).await, "ok");
    tokio::time::pause();
    sleep(POOL_IDLE * 3).await;
    tokio::time::resume();
    assert!(!heard(&mut stream).await, "it is closed");
    assert!(lines.resting.lock().lines.is_empty());
}
