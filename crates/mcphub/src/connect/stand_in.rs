//! Something that stands in for a hub, in tests: it answers what they like.

use axum::Router;
use axum::response::Response;
use bytes::Bytes;
use mcphub_domain::SecretText;
use mcphub_hub::Remote;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Ends it when it is dropped.
pub(super) type Standing = JoinSet<()>;

/// Answers each request with what `answer` makes of it.
pub(super) async fn hub_that_answers(
    answer: impl Fn() -> Response + Clone + Send + Sync + 'static,
) -> (Remote, Standing) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router: Router = Router::new().fallback(move |_: Bytes| std::future::ready(answer()));
    let mut standing = Standing::new();
    standing.spawn(async move { drop(axum::serve(listener, router).await) });
    (remote(&address), standing)
}

/// Leads to whatever is at an address.
pub(super) fn remote(address: &str) -> Remote {
    Remote::new(&format!("http://{address}/mcp"), &SecretText::new("k".to_owned())).unwrap()
}
