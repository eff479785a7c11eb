//! What a client makes of several tries: servers that lose an answer, refuse, or are not there at all, and
//! somebody between who answers for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use hyper::Method;
use raft_kv::client::{Answer, Ask, Client, ClientError, IDEMPOTENCY_KEY};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What comes of a request: nothing, as if the answer was lost, or a status with a body.
type Reply = (u16, &'static str);

const LOST: Reply = (0, "");
const REFUSED: Reply = (503, r#"{"code":"no_leader","message":"no leader is known"}"#);
const TOLD_OFF: Reply = (503, "not the leader");
const BETWEEN: Reply = (503, "<html>no healthy upstream</html>");

/// Longer than some tries take, where they come to no end.
const SOON: Duration = Duration::from_secs(2);

/// Where they do.
const LATE: Duration = Duration::from_secs(30);

/// A server that gives these answers, one after the other, and the last one again and again. What comes of
/// the request, and how often it came.
async fn ask(
    ask: Ask,
    timeout: Duration,
    replies: Vec<Reply>,
) -> (Result<Answer, ClientError>, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = Client::new(&[listener.local_addr().unwrap().to_string()]);
    client.timeout = timeout;
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let at = counter.fetch_add(1, Ordering::Relaxed);
            answer(stream, replies[at.min(replies.len() - 1)]).await;
        }
    });
    let outcome = client.ask(&ask).await;
    server.abort();
    (outcome, asked.load(Ordering::Relaxed))
}

async fn answer(mut stream: TcpStream, (status, body): Reply) {
    let mut seen = Vec::new();
    // The body of all requests here ends so.
    while !seen.ends_with(b"value") && stream.read_buf(&mut seen).await.unwrap() > 0 {}
    if status == 0 {
        return;
    }
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} -\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    // It may have given up meanwhile.
    drop(stream.write_all((head + body).as_bytes()).await);
}

fn plain() -> Ask {
    Ask::new(Method::PUT, "/kv/k").body("value")
}

fn named() -> Ask {
    plain().header(IDEMPOTENCY_KEY, "alice/1")
}

#[tokio::test]
async fn what_one_try_may_have_done_no_later_one_takes_back() {
    let refusals = [
        vec![LOST, REFUSED],
        vec![LOST, TOLD_OFF],
        vec![(504, ""), REFUSED],
        vec![LOST, (429, r#"{"code":"busy","message":"busy"}"#)],
        vec![LOST, (507, r#"{"code":"no_room","message":"full"}"#)],
        vec![REFUSED, LOST, (408, ""), REFUSED],
        vec![LOST, (413, "")],
        vec![BETWEEN, REFUSED],
    ];
    let tried = refusals.map(|replies| async move {
        let (outcome, asked) = ask(named(), SOON, replies.clone()).await;
        assert!(matches!(outcome, Err(ClientError::Unknown(_))), "{replies:?}: {outcome:?}");
        assert!(asked >= replies.len(), "{replies:?}: it was worth {asked} tries");
    });
    join_all(tried).await;
}

#[tokio::test]
async fn the_answer_to_all_tries_ends_the_doubt() {
    for status in [200, 412, 409] {
        for first in [LOST, BETWEEN, (504, "")] {
            let replies = vec![first, REFUSED, (status, "")];
            let (outcome, asked) = ask(named(), LATE, replies).await;
            let answer = outcome.unwrap_or_else(|error| panic!("{first:?}, {status}: {error}"));
            assert_eq!((answer.status.as_u16(), asked), (status, 3), "{first:?}");
        }
    }
}

#[tokio::test]
async fn without_a_doubt_a_refusal_is_one() {
    let requests = [(plain(), REFUSED), (plain(), TOLD_OFF), (named(), REFUSED)];
    let tried = requests.map(|(request, reply)| async move {
        let (outcome, asked) = ask(request, SOON, vec![reply]).await;
        assert!(matches!(outcome, Err(ClientError::Unavailable(_))), "{outcome:?}");
        assert!(asked > 1, "nothing was done: it is tried again");
    });
    join_all(tried).await;
    let (outcome, asked) = ask(named(), LATE, vec![REFUSED, (429, "")]).await;
    assert_eq!((outcome.unwrap().status.as_u16(), asked), (429, 2), "nothing was done");
}

#[tokio::test]
async fn what_has_no_name_is_not_sent_again_after_somebody_between_has_answered() {
    for reply in [BETWEEN, LOST] {
        let (outcome, asked) = ask(plain(), LATE, vec![reply, (200, "")]).await;
        assert!(matches!(outcome, Err(ClientError::Unknown(_))), "{outcome:?}");
        assert_eq!(asked, 1, "{reply:?}");
    }
}
