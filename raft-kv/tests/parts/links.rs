//! Who gets a place at the peers' port.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raft_core::{ClusterId, Lineage, Member, NodeId};
use raft_kv::clock::Clock;
use raft_kv::hello::{self, Hello};
use raft_kv::links::{Links, News, OnNews};
use raft_kv::transport::memory::Network;
use raft_kv::transport::tcp::Tcp;
use raft_kv::transport::{BoxFuture, Connection, Listener, Transport};
use socket2::{SockFilter, SockRef};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

fn hello(id: u64) -> Hello {
    Hello {
        member: Member { id: NodeId(id), lineage: Lineage(id) },
        address: "127.0.0.1:9".to_owned(),
        client_url: format!("http://here/{id}"),
        cluster: Some(ClusterId(7)),
        founders: Vec::new(),
        configured: Vec::new(),
    }
}

/// Server 1, which listens here and takes all frames; and what must live as long.
async fn listening() -> (String, watch::Sender<Hello>) {
    let (address, me, _) = linked().await;
    (address, me)
}

/// The same, with its links.
async fn linked() -> (String, watch::Sender<Hello>, Links) {
    linked_with(Arc::new(|_| true)).await
}

/// The same, and who wants to know what the links have to tell.
async fn linked_with(on_news: OnNews) -> (String, watch::Sender<Hello>, Links) {
    let (me, told) = watch::channel(hello(1));
    let links = Links::new(Arc::new(Tcp), told, 1 << 20, Clock::start());
    links.open(on_news);
    let listener = Tcp.listen("127.0.0.1:0").await.unwrap();
    let address = listener.address();
    tokio::spawn(links.clone().listen(listener));
    (address, me, links)
}

/// A connection that server `id` begins; it is answered within the time that a server allows.
async fn introduced(address: &str, id: u64) -> Connection {
    let mut connection = Tcp.connect(address).await.unwrap();
    let theirs = hello::introduce(&mut connection, &hello(id)).await.unwrap();
    assert_eq!(theirs.member.id, NodeId(1));
    connection
}

#[tokio::test]
async fn who_says_nothing_does_not_keep_out_who_says_who_it_is() {
    let (address, _me) = listening().await;
    let mut crowd = Vec::new();
    for _ in 0..400 {
        crowd.push(TcpStream::connect(&address).await.unwrap());
    }
    let mut second = introduced(&address, 2).await;
    for _ in 0..400 {
        crowd.push(TcpStream::connect(&address).await.unwrap());
    }
    let _third = introduced(&address, 3).await;
    // Strangers pushed strangers out; who was let in stays.
    let mut oldest = Vec::new();
    drop(timeout(Duration::from_secs(20), crowd[0].read_to_end(&mut oldest)).await.expect("cut"));
    let silence = timeout(Duration::from_millis(1), second.read_u8()).await;
    assert!(silence.is_err(), "{silence:?}");
}

#[tokio::test]
async fn a_peer_that_connects_again_and_again_loses_its_oldest_connections() {
    let (address, _me) = listening().await;
    let other = introduced(&address, 3).await;
    let mut connections = Vec::new();
    for _ in 0..300 {
        connections.push(introduced(&address, 2).await);
    }
    let rest = connections.split_off(297);
    for mut connection in connections {
        let mut said = Vec::new();
        let ended = timeout(Duration::from_secs(20), connection.read_to_end(&mut said)).await;
        assert!(ended.is_ok() && said.is_empty());
    }
    for mut connection in rest.into_iter().chain([other]) {
        let silence = timeout(Duration::from_millis(1), connection.read_u8()).await;
        assert!(silence.is_err(), "{silence:?}");
    }
}

/// A filter that lets nothing through is what a host looks like that has lost its power: it takes no
/// byte, and does not even say that it is gone.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_host_that_vanishes_without_a_word_is_missed_and_found_again() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let on_news: OnNews = Arc::new(move |news| tell.send(news).is_ok());
    let (_, _me, links) = linked_with(on_news).await;
    let mut hosts = Vec::new();
    for id in [2, 3] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        links.set_address(NodeId(id), &listener.local_addr().unwrap().to_string());
        let connections = until_connected(&links, id, &listener).await;
        for connection in &connections {
            let nothing_passes = [SockFilter::new(0x06, 0, 0, 0)];
            SockRef::from(connection).attach_filter(&nothing_passes).unwrap();
        }
        hosts.push((id, listener, connections));
    }
    // The third one is sent nothing: it is missed all the same.
    links.send(NodeId(2), Bytes::from_static(b"word"));
    let mut missed = BTreeSet::new();
    while missed.len() < hosts.len() {
        let news = timeout(Duration::from_secs(20), told.recv()).await.expect("they are missed");
        let Some(News::Unreachable(peer)) = news else { panic!("{news:?}") };
        assert!(!links.peers()[&peer.id].is_connected);
        missed.insert(peer.id);
    }
    for (id, listener, _) in &hosts {
        until_connected(&links, *id, listener).await;
    }
}

/// Answers as server `id` until the link to it stands; returns the connections that came.
#[cfg(target_os = "linux")]
async fn until_connected(
    links: &Links,
    id: u64,
    listener: &TcpListener,
) -> Vec<std::net::TcpStream> {
    let mut came = Vec::new();
    let answering = async {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let stream = stream.into_std().unwrap();
            came.push(stream.try_clone().unwrap());
            let mut connection: Connection = Box::new(TcpStream::from_std(stream).unwrap());
            // Who did not wait so long comes again.
            drop(hello::answer(&mut connection, || hello(id)).await);
        }
    };
    let connected = async {
        while !links.peers()[&NodeId(id)].is_connected {
            tokio::task::yield_now().await;
        }
    };
    let both = async {
        tokio::select! {
            () = answering => {}
            () = connected => {}
        }
    };
    timeout(Duration::from_secs(20), both).await.expect("it is connected");
    came
}

#[tokio::test]
async fn who_speaks_under_the_number_of_another_is_not_the_other() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let on_news: OnNews = Arc::new(move |news| tell.send(news).is_ok());
    let (address, _me, links) = linked_with(on_news).await;
    let mut second = introduced(&address, 2).await;
    second.write_all(b"\x04\x00\x00\x00word").await.unwrap();
    let news = timeout(Duration::from_secs(20), told.recv()).await.expect("it is heard");
    assert!(matches!(news, Some(News::Frame { .. })), "{news:?}");
    assert!(links.silence_of(Member::new(2, 2)).is_some());
    assert!(links.silence(NodeId(2)).is_some());
    assert_eq!(links.silence_of(Member::new(2, 7)), None, "that one was never heard");

    // Somebody else under that number comes and is silent: the first one is heard all the same.
    let mut connection = Tcp.connect(&address).await.unwrap();
    let client_url = "http://other".to_owned();
    let other = Hello { member: Member::new(2, 7), client_url, ..hello(2) };
    hello::introduce(&mut connection, &other).await.unwrap();
    assert!(links.silence_of(Member::new(2, 2)).is_some());
    assert_eq!(links.silence_of(Member::new(2, 7)), None);
    connection.write_all(b"\x04\x00\x00\x00word").await.unwrap();
    let news = timeout(Duration::from_secs(20), told.recv()).await.expect("it is heard");
    assert!(matches!(news, Some(News::Frame { .. })), "{news:?}");
    // What clients want of the first one is not passed on to it.
    let client_url = |lineage| links.client_url(Member::new(2, lineage));
    assert_eq!(client_url(2).as_deref(), Some("http://here/2"));
    assert_eq!(client_url(7).as_deref(), Some("http://other"));
}

/// Whoever dials gets a pipe that holds little; its other end comes out here.
#[derive(Debug)]
struct Narrow(mpsc::UnboundedSender<DuplexStream>);

impl Transport for Narrow {
    fn connect<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
        let (near, far) = duplex(64);
        self.0.send(far).unwrap();
        Box::pin(async { Ok(Box::new(near) as Connection) })
    }

    fn listen<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}

async fn until_one_is_connected(links: &Links, id: u64) {
    while !links.peers()[&NodeId(id)].is_connected {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_slow_and_lives_brings_what_is_long() {
    let (dialed, mut pipes) = mpsc::unbounded_channel();
    let (tell, mut told) = mpsc::unbounded_channel();
    let (_me, said) = watch::channel(hello(1));
    let links = Links::new(Arc::new(Narrow(dialed)), said, 1 << 20, Clock::start());
    links.open(Arc::new(move |news| tell.send(news).is_ok()));
    links.set_address(NodeId(2), "narrow");
    let mut far: Connection = Box::new(pipes.recv().await.unwrap());
    hello::answer(&mut far, || hello(2)).await.unwrap();
    until_one_is_connected(&links, 2).await;

    // Long enough that all of them together take minutes, and more than are written at once.
    let frame = |byte: u8| vec![byte; 1000];
    for byte in 1..=3 {
        links.send(NodeId(2), frame(byte).into());
    }
    for byte in 1..=3 {
        let mut seen = Vec::new();
        while seen.len() < 1004 {
            tokio::time::advance(Duration::from_secs(4)).await;
            let mut part = vec![0; 32.min(1004 - seen.len())];
            let read = timeout(Duration::from_secs(60), far.read_exact(&mut part)).await;
            read.expect("it goes on").expect("it is not cut off");
            seen.extend(part);
        }
        assert_eq!(seen[4..], frame(byte));
    }
    assert!(told.try_recv().is_err(), "it was there all the time");

    // Who takes nothing at all is missed.
    links.send(NodeId(2), frame(4).into());
    let news = timeout(Duration::from_secs(60), told.recv()).await.expect("it is missed");
    assert!(matches!(news, Some(News::Unreachable(_))), "{news:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_runs_any_more_for_links_that_are_closed() {
    let network = Network::default();
    let transport = Arc::new(network.end("one"));
    let left = Arc::downgrade(&transport);
    let listener = transport.listen("one").await.unwrap();
    let (_me, said) = watch::channel(hello(1));
    let links = Links::new(transport, said, 1 << 20, Clock::start());
    links.open(Arc::new(|_| true));
    let listening = tokio::spawn(links.clone().listen(listener));
    // One that stands, one that is tried again and again, and one that has come.
    let second = network.end("two");
    let mut peers = second.listen("two").await.unwrap();
    links.set_address(NodeId(2), "two");
    links.set_address(NodeId(3), "nowhere");
    let mut outgoing = peers.accept().await.unwrap().connection.await.unwrap();
    hello::answer(&mut outgoing, || hello(2)).await.unwrap();
    until_one_is_connected(&links, 2).await;
    let mut incoming = second.connect("one").await.unwrap();
    hello::introduce(&mut incoming, &hello(2)).await.unwrap();

    links.close().await;
    for mut connection in [outgoing, incoming] {
        let mut rest = Vec::new();
        let ended = timeout(Duration::from_secs(60), connection.read_to_end(&mut rest)).await;
        assert!(ended.is_ok() && rest.is_empty(), "it has ended");
    }
    // What comes later changes nothing.
    links.set_address(NodeId(4), "two");
    drop(links);
    listening.abort();
    drop(listening.await);
    assert!(left.upgrade().is_none(), "somebody could still dial");
}
