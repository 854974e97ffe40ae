//! One request: what it carries, where it is redirected to, and who it says that it is from.

use super::answer::Answer;
use super::check::Stop;
use super::client::Client;
use super::url::Url;
use super::wire::{Body, Reply};

const MOST_REDIRECTS: usize = 5;

/// A request that is being put together.
pub(super) struct Request<'a> {
    client: &'a Client,
    method: &'static str,
    url: Url,
    headers: Vec<(String, String)>,
    body: Body,
}

impl<'a> Request<'a> {
    pub(super) fn new(client: &'a Client, method: &'static str, url: Url) -> Self {
        Self { client, method, url, headers: Vec::new(), body: Body::None }
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Bytes with their length.
    pub(super) fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = Body::Sized(bytes.into());
        self
    }

    /// Bytes whose length is not said.
    pub(super) fn stream(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = Body::Streamed(bytes.into());
        self
    }

    /// Sends the request. No answer at all is a failure of the check.
    pub(super) async fn send(self) -> Result<Answer, Stop> {
        let asked = self.describe();
        let (client, url) = (self.client, self.url.clone());
        match self.transfer().await {
            Ok(reply) => {
                let answer = Answer::new(asked, url, reply);
                client.answers.borrow_mut().push(answer.for_the_record());
                Ok(answer)
            }
            Err(error) => {
                Err(Stop::Fail { request: asked, expected: "an answer".to_owned(), found: error })
            }
        }
    }

    /// Method, target, and the headers that are not on every such request.
    fn describe(&self) -> String {
        let mut out = format!("{} {}", self.method, self.url.target);
        let usual = |name: &str| matches!(name, "Content-Type" | "Accept");
        for (name, value) in self.headers.iter().filter(|(name, _)| !usual(name)) {
            out.push_str(&format!(" [{name}: {value}]"));
        }
        out
    }

    async fn transfer(mut self) -> Result<Reply, String> {
        let scope = format!("{} {}", self.method, repository_part(&self.url.target));
        for _ in 0..MOST_REDIRECTS {
            // Credentials are for the registry alone, not for where it points (spec: Redirects).
            let trusted = self.url.authority == self.client.base.authority
                && self.url.tls == self.client.base.tls;
            let mut headers = self.headers.clone();
            let known = self.client.authorizations.borrow().get(&scope).cloned();
            headers
                .extend(known.filter(|_| trusted).map(|value| ("Authorization".to_owned(), value)));
            let mut reply =
                self.client.send_once(self.method, &self.url, &headers, &self.body).await?;
            if reply.status == 401
                && trusted
                && let Some(value) = self.client.authorize(&reply).await?
            {
                let mut headers = self.headers.clone();
                headers.push(("Authorization".to_owned(), value.clone()));
                self.client.authorizations.borrow_mut().insert(scope.clone(), value);
                reply = self.client.send_once(self.method, &self.url, &headers, &self.body).await?;
            }
            match (reply.status, reply.header("location")) {
                (301 | 302 | 303 | 307 | 308, Some(location)) => {
                    self.url = self.url.resolve(location)?
                }
                _ => return Ok(reply),
            }
        }
        Err(format!("more than {MOST_REDIRECTS} redirects"))
    }
}

/// The part of a path that a token is for.
fn repository_part(target: &str) -> &str {
    let ends = ["/manifests/", "/blobs/", "/tags/", "/referrers/"];
    let end = ends.iter().filter_map(|end| target.rfind(end)).min();
    &target[..end.unwrap_or(target.len())]
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::conformance::auth::basic;

    /// Serves `count` requests, and keeps their heads. `{own}` in an answer is the server's own address.
    async fn serve(
        listener: TcpListener,
        count: usize,
        answer: impl Fn(&str) -> String,
    ) -> Vec<String> {
        let own = format!("http://{}", listener.local_addr().expect("an address"));
        let mut heads = Vec::new();
        for _ in 0..count {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut bytes = vec![0; 4096];
            let read = stream.read(&mut bytes).await.expect("a request");
            let head = String::from_utf8_lossy(&bytes[..read]).into_owned();
            let reply = answer(&head).replace("{own}", &own);
            stream.write_all(reply.as_bytes()).await.expect("written");
            heads.push(head);
        }
        heads
    }

    fn reply(status: &str, header: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\n{header}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    async fn client_of(listener: &TcpListener) -> Client {
        let address = listener.local_addr().expect("an address").to_string();
        let credentials = Some(("me".to_owned(), "secret".to_owned()));
        Client::new(Url::parse(&address, true).expect("valid"), credentials)
    }

    #[tokio::test]
    async fn a_token_is_fetched_once_for_a_repository() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = client_of(&listener).await;
        let challenge = "WWW-Authenticate: Bearer realm=\"{own}/token\",service=\"s\",scope=\"repository:a:pull\"";
        let server = serve(listener, 4, |head| {
            if head.starts_with("GET /token") {
                return reply("200 OK", "X: y", r#"{"token":"t"}"#);
            }
            let known = head.contains("Authorization: Bearer t\r\n");
            if known {
                reply("200 OK", "X: y", "")
            } else {
                reply("401 Unauthorized", challenge, "")
            }
        });
        let ask = async {
            for tag in ["1", "2"] {
                let url = client.base.with_target(format!("/v2/a/manifests/{tag}"));
                let got = client.request("GET", url).send().await.expect("an answer");
                assert_eq!(got.status(), 200);
            }
        };
        let (heads, ()) = tokio::join!(server, ask);
        assert!(
            heads[1].starts_with("GET /token?service=s&scope=repository:a:pull HTTP/1.1"),
            "{}",
            heads[1]
        );
        assert!(heads[1].contains(&format!("Authorization: {}\r\n", basic("me", "secret"))));
        assert!(heads[3].contains("Authorization: Bearer t\r\n"));
    }

    #[tokio::test]
    async fn credentials_stay_with_the_registry() {
        let registry = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let storage = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = client_of(&registry).await;
        let elsewhere =
            format!("Location: http://{}/data", storage.local_addr().expect("an address"));
        let server = serve(registry, 2, |head| {
            let known = head.contains("Authorization: Basic");
            let challenge = "WWW-Authenticate: Basic realm=x";
            if known {
                reply("307 Moved", &elsewhere, "")
            } else {
                reply("401 Unauthorized", challenge, "")
            }
        });
        // A challenge from there is not answered either.
        let other =
            serve(storage, 1, |_| reply("401 Unauthorized", "WWW-Authenticate: Basic realm=x", ""));
        let url = client.base.with_target("/v2/a/blobs/sha256:00");
        let ask = async { client.request("GET", url).send().await.expect("an answer").status() };
        let (_, heads, status) = tokio::join!(server, other, ask);
        assert_eq!(status, 401);
        assert!(
            heads[0].starts_with("GET /data ") && !heads[0].contains("Authorization"),
            "{}",
            heads[0]
        );
    }
}
