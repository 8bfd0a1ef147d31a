//! Errands to addresses that servers choose: where they may go, and how much an answer may cost.

use std::time::Duration;

use mcphub_domain::SecretText;
use mcphub_upstream::{Content, Errand, ErrandError, Fetched, Vicinity};

use crate::harness::Hub;
use crate::web::{End, Plan, Web, raw, status};

/// Is what a server elsewhere may send the hub to.
fn vicinity(networks: &[&str]) -> Vicinity {
    let networks = networks.iter().map(|text| text.parse().unwrap()).collect();
    Vicinity { server: "https://a.example/mcp".parse().unwrap(), networks }
}

async fn run(hub: &Hub, web: &Web, networks: &[&str]) -> Result<Fetched, ErrandError> {
    hub.upstreams.run(Errand::get(web.url().parse().unwrap()), &vicinity(networks)).await
}

#[tokio::test]
async fn nothing_connects_to_what_no_admin_has_allowed() {
    let (hub, web) = (Hub::start(), Web::start(|_| status(200)).await);
    let refused = run(&hub, &web, &[]).await.err();
    assert!(matches!(refused, Some(ErrandError::Refused(..))), "{refused:?}");
    let by_name = format!("http://localhost:{}/x", web.address.port()).parse().unwrap();
    let refused = hub.upstreams.run(Errand::get(by_name), &vicinity(&["10.0.0.0/8"])).await.err();
    assert!(matches!(refused, Some(ErrandError::Refused(..))), "{refused:?}");
    assert_eq!(web.seen().len(), 0);
    let form = Content::Form(SecretText::new("a=b".into()));
    let errand = Errand { content: form, ..Errand::get(web.url().parse().unwrap()) };
    assert!(hub.upstreams.run(errand, &vicinity(&["127.0.0.0/8"])).await.is_ok());
    let [seen] = &web.seen()[..] else { panic!("one request was allowed") };
    assert_eq!((seen.verb.as_str(), seen.path(), seen.text.as_str()), ("POST", "/mcp", "a=b"));
}

#[tokio::test]
async fn an_answer_is_read_up_to_its_limit() {
    let length = 256 * 1024;
    for (more, good) in [(0, true), (1, false)] {
        let body = "x".repeat(length + more);
        let web = Web::start(move |_| {
            raw(&format!("200 X\r\ncontent-length: {}", body.len()), &body, End::KeepAlive)
        });
        let (hub, web) = (Hub::start(), web.await);
        match run(&hub, &web, &["127.0.0.0/8"]).await {
            Ok(fetched) => assert!(good && fetched.body.len() == length),
            Err(error) => assert!(!good && error.to_string().contains("larger than"), "{error}"),
        }
    }
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let other = Web::start(|_| status(200)).await;
    let place = other.url();
    let web = Web::start(move |_| {
        raw(&format!("307 X\r\nlocation: {place}\r\ncontent-length: 0"), "", End::KeepAlive)
    });
    let (hub, web) = (Hub::start(), web.await);
    assert_eq!(run(&hub, &web, &["127.0.0.0/8"]).await.ok().map(|fetched| fetched.status), Some(307));
    assert_eq!(other.seen().len(), 0);
}

#[tokio::test]
async fn an_errand_takes_its_time_and_no_more() {
    let (hub, web) = (Hub::start(), Web::start(|_| Plan { pieces: Vec::new(), end: End::Hang }).await);
    let networks = ["127.0.0.0/8"];
    let waiting = run(&hub, &web, &networks);
    tokio::pin!(waiting);
    while web.seen().is_empty() {
        tokio::select! {
            _ = &mut waiting => panic!("it answered"),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
    }
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let error = waiting.await.err();
    assert_eq!(error.map(|error| error.to_string().contains("did not answer in time")), Some(true));
    assert!((9..=10).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn what_a_server_wants_is_read_off_the_head_of_its_answer() {
    let challenge = "401 X\r\nwww-authenticate: Bearer scope=\"a b\"\r\n";
    for rest in ["content-length: 1000000000", "content-type: text/event-stream; charset=utf-8"] {
        let head = format!("{challenge}{rest}");
        let web = Web::start(move |_| raw(&head, "data: x\n\n", End::Hang)).await;
        let hub = Hub::start();
        let vicinity = Vicinity { server: web.url().parse().unwrap(), networks: Vec::new() };
        let probing = tokio::time::timeout(Duration::from_secs(5), hub.upstreams.probe(&vicinity));
        let wanted = probing.await.expect("the body is not waited for").unwrap().unwrap();
        assert_eq!(wanted.scopes().collect::<Vec<_>>(), ["a", "b"], "{rest}");
        let seen = web.seen();
        assert_eq!((seen[0].method(), seen[0].header("mcp-method")), ("tools/list", Some("tools/list")));
        assert_eq!(seen[0].header("authorization"), None);
    }
}

#[tokio::test]
async fn events_are_no_answer_that_is_waited_for() {
    let head = "200 X\r\ncontent-type: Text/Event-Stream; charset=utf-8";
    let (hub, web) = (Hub::start(), Web::start(move |_| raw(head, "data: x\n\n", End::Hang)).await);
    let fetched = run(&hub, &web, &["127.0.0.0/8"]).await.ok().unwrap();
    assert_eq!((fetched.status, fetched.body.len()), (200, 0));
}
