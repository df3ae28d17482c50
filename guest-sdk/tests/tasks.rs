//! The executor, on the stand-in of native builds.

#![cfg(not(target_family = "wasm"))]

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use refcap_guest::task::{Async, block_on, connect, copy, sleep, spawn, timeout, yield_now};
use refcap_guest::{ErrorCode, TcpStream, testing};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn the_value_of_the_main_future_comes_back_and_the_rest_is_dropped() {
    struct Told(Rc<Cell<bool>>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let dropped = Rc::new(Cell::new(false));
    let told = Told(dropped.clone());
    let value = block_on(async {
        spawn(async move {
            let _told = told;
            pending::<()>().await;
        });
        yield_now().await;
        7
    });
    assert_eq!(value, Ok(7));
    assert!(dropped.get());
}

#[test]
fn tasks_take_turns_and_can_be_waited_for() {
    let log = Rc::new(RefCell::new(Vec::new()));
    block_on(async {
        let task = |name: char| {
            let log = log.clone();
            spawn(async move {
                for round in 0..3 {
                    log.borrow_mut().push((name, round));
                    yield_now().await;
                }
                name
            })
        };
        let (a, b) = (task('a'), task('b'));
        assert!(!a.is_finished());
        assert_eq!((a.await, b.await), (Ok('a'), Ok('b')));
    })
    .unwrap();
    let turns = [('a', 0), ('b', 0), ('a', 1), ('b', 1), ('a', 2), ('b', 2)];
    assert_eq!(*log.borrow(), turns);
}

#[test]
fn an_aborted_task_is_an_error_for_who_waits() {
    block_on(async {
        let task = spawn(pending::<()>());
        yield_now().await;
        task.abort();
        assert!(task.is_finished());
        assert_eq!(task.await.unwrap_err().code(), ErrorCode::Closed);
        // What is done before it is aborted is done.
        let task = spawn(async { 1 });
        yield_now().await;
        yield_now().await;
        task.abort();
        assert_eq!(task.await, Ok(1));
    })
    .unwrap();
}

#[test]
fn times_are_waited_for_in_their_order() {
    testing::stop_clock();
    let log = Rc::new(RefCell::new(Vec::new()));
    let begun = Instant::now();
    block_on(async {
        let tasks: Vec<_> = [30, 10, 20]
            .map(|time| {
                let log = log.clone();
                spawn(async move {
                    sleep(time * HOUR).await.unwrap();
                    log.borrow_mut().push(time);
                })
            })
            .into();
        for task in tasks {
            task.await.unwrap();
        }
    })
    .unwrap();
    assert_eq!(*log.borrow(), [10, 20, 30]);
    assert!(begun.elapsed() < HOUR);
}

#[test]
fn real_time_passes_too() {
    let begun = Instant::now();
    block_on(sleep(30 * MS)).unwrap().unwrap();
    assert!(begun.elapsed() >= 30 * MS);
}

// A limit of time around something that is polled often makes one timer.
#[test]
fn a_limit_holds_however_often_its_task_is_woken() {
    testing::stop_clock();
    block_on(async {
        let busy = async {
            for _ in 0..1_000 {
                yield_now().await;
            }
            pending::<()>().await;
        };
        let late = timeout(HOUR, busy).await.unwrap_err();
        assert_eq!(late.code(), ErrorCode::TimedOut);
    })
    .unwrap();
}

#[test]
fn what_takes_too_long_is_dropped() {
    block_on(async {
        let late = timeout(5 * MS, pending::<()>()).await.unwrap_err();
        assert_eq!(late.code(), ErrorCode::TimedOut);
        assert_eq!(timeout(Duration::from_secs(60), async { 3 }).await, Ok(3));
    })
    .unwrap();
}

#[test]
fn ten_thousand_tasks_finish() {
    let sum = block_on(async {
        let tasks: Vec<_> = (0..10_000_u64)
            .map(|number| {
                spawn(async move {
                    yield_now().await;
                    number
                })
            })
            .collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await.unwrap();
        }
        sum
    });
    assert_eq!(sum, Ok(49_995_000));
}

#[test]
fn an_echo_server_serves_many_at_once() {
    const CLIENTS: u8 = 20;
    let net = testing::net("bind,listen tcp 127.0.0.1:0; accept tcp 127.0.0.1:*; connect tcp 127.0.0.1:*");
    let listener = net.listen("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let clients = std::thread::spawn(move || {
        // All are open before the first says anything.
        let mut streams: Vec<_> = (0..CLIENTS)
            .map(|_| StdStream::connect(address).unwrap())
            .collect();
        for (stream, number) in streams.iter_mut().zip(0..CLIENTS).rev() {
            stream.write_all(&[number; 100]).unwrap();
        }
        for (stream, number) in streams.iter_mut().zip(0..CLIENTS) {
            let mut answer = [0; 100];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [number; 100]);
        }
    });
    block_on(async {
        let listener = Async::new(listener).unwrap();
        let mut tasks = Vec::new();
        for _ in 0..CLIENTS {
            let (stream, _) = listener.accept().await.unwrap();
            tasks.push(spawn(async move {
                let mut buffer = [0; 64];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    stream.write_all(&buffer[..length]).await.unwrap();
                }
            }));
        }
        // One of its own, too.
        let own = spawn(async move {
            let stream = connect(&net, address).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).await.unwrap();
            answer
        });
        let (stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 5];
        stream.read_exact(&mut buffer).await.unwrap();
        stream.write_all(&buffer).await.unwrap();
        assert_eq!(own.await, Ok(*b"hello"));
        for task in tasks {
            task.await.unwrap();
        }
    })
    .unwrap();
    clients.join().unwrap();
}

/// A stream in a task, and its other end.
async fn connected(net: &refcap_guest::Net) -> (Async<TcpStream>, StdStream) {
    let server = StdListener::bind("127.0.0.1:0").unwrap();
    let stream = connect(net, server.local_addr().unwrap()).await.unwrap();
    (stream, server.accept().unwrap().0)
}

#[test]
fn a_stream_is_copied_to_its_end_while_others_run() {
    const LENGTH: usize = 8 << 20;
    let net = testing::net("connect tcp 127.0.0.1:*");
    block_on(async {
        let (from, mut near) = connected(&net).await;
        let (to, mut far) = connected(&net).await;
        let ticks = Rc::new(Cell::new(0));
        let ticking = spawn({
            let ticks = ticks.clone();
            async move {
                loop {
                    ticks.set(ticks.get() + 1);
                    sleep(MS).await.unwrap();
                }
            }
        });
        let sent: Vec<u8> = (0..LENGTH).map(|number| (number % 251) as u8).collect();
        let expected = sent.clone();
        let sending = std::thread::spawn(move || {
            near.write_all(&sent[..10]).unwrap();
            // Nothing is there for a while, and then more than there is room for.
            std::thread::sleep(30 * MS);
            near.write_all(&sent[10..]).unwrap();
        });
        let receiving = std::thread::spawn(move || {
            std::thread::sleep(100 * MS);
            let mut got = Vec::new();
            far.read_to_end(&mut got).unwrap();
            got
        });
        assert_eq!(copy(&from, &to).await, Ok(LENGTH as u64));
        to.shutdown(Shutdown::Write).unwrap();
        assert!(receiving.join().unwrap() == expected);
        sending.join().unwrap();
        assert!(ticks.get() > 10, "{}", ticks.get());
        ticking.abort();
        assert_eq!(
            copy(&from, &from).await.unwrap_err().code(),
            ErrorCode::BadArgument
        );
    })
    .unwrap();
}

#[test]
fn several_pieces_are_written_and_waited_for() {
    let net = testing::net("connect tcp 127.0.0.1:*");
    block_on(async {
        let (stream, mut peer) = connected(&net).await;
        let pieces = [&b"head, "[..], b"body"].map(IoSlice::new);
        assert_eq!(stream.write_vectored(&pieces).await, Ok(10));
        let echo = std::thread::spawn(move || {
            let mut got = [0; 10];
            peer.read_exact(&mut got).unwrap();
            std::thread::sleep(30 * MS);
            peer.write_all(&got).unwrap();
            peer
        });
        let (mut head, mut body) = ([0; 6], [0; 6]);
        let mut buffers = [&mut head[..], &mut body].map(IoSliceMut::new);
        assert_eq!(stream.read_vectored(&mut buffers).await, Ok(10));
        assert_eq!((&head, &body), (b"head, ", b"body\0\0"));
        echo.join().unwrap();
    })
    .unwrap();
}

#[test]
fn only_the_task_whose_waker_fired_is_polled() {
    let polls = Rc::new(Cell::new(0));
    block_on(async {
        for _ in 0..1_000 {
            let polls = polls.clone();
            spawn(poll_fn(move |_| {
                polls.set(polls.get() + 1);
                Poll::<()>::Pending
            }));
        }
        for _ in 0..100 {
            yield_now().await;
        }
        sleep(MS).await.unwrap();
    })
    .unwrap();
    assert_eq!(polls.get(), 1_000);
}

#[test]
fn what_was_spawned_ends_with_its_executor_and_says_so() {
    let left = block_on(async { Some(spawn(pending::<()>())) });
    let left = left.unwrap().unwrap();
    assert!(left.is_finished());
    block_on(async {
        // It has the same number there as the other one had here, and is another one.
        let task = spawn(async {
            yield_now().await;
            5
        });
        left.abort();
        assert_eq!(task.await, Ok(5));
        assert_eq!(left.await.unwrap_err().code(), ErrorCode::Closed);
    })
    .unwrap();
}

#[test]
fn a_socket_is_not_waited_for_where_nobody_would_look() {
    let server = StdListener::bind("127.0.0.1:0").unwrap();
    let net = testing::net("connect tcp 127.0.0.1:*");
    let address = server.local_addr().unwrap();
    let stream = block_on(async { connect(&net, address).await.unwrap() }).unwrap();
    let (_peer, _) = server.accept().unwrap();
    let error = block_on(async { stream.read(&mut [0]).await.unwrap_err() }).unwrap();
    assert_eq!(error.code(), ErrorCode::BadArgument);
    assert!(error.message().contains("another `block_on`"), "{error}");
}

#[test]
fn one_task_reads_a_stream_while_another_writes_it() {
    const LENGTH: usize = 4 << 20;
    let server = StdListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let echo = std::thread::spawn(move || {
        let (mut peer, _) = server.accept().unwrap();
        let mut reader = peer.try_clone().unwrap();
        std::io::copy(&mut reader, &mut peer).unwrap();
    });
    let net = testing::net("connect tcp 127.0.0.1:*");
    block_on(async {
        let stream = Rc::new(connect(&net, address).await.unwrap());
        let writer = spawn({
            let stream = stream.clone();
            async move {
                stream.write_all(&vec![7; LENGTH]).await?;
                stream.shutdown(Shutdown::Write)
            }
        });
        let mut back = vec![0; LENGTH];
        stream.read_exact(&mut back).await.unwrap();
        assert!(back.iter().all(|&byte| byte == 7));
        assert_eq!(stream.read(&mut [0]).await, Ok(0));
        writer.await.unwrap().unwrap();
        let early = stream.read_exact(&mut [0]).await.unwrap_err();
        assert_eq!(early.code(), ErrorCode::NotConnected);
    })
    .unwrap();
    echo.join().unwrap();
}

#[test]
fn datagrams_are_waited_for() {
    let net = testing::net(
        "bind udp 127.0.0.1:0; connect,send udp 127.0.0.1:*; receive udp 127.0.0.1:* from 127.0.0.1",
    );
    let socket = || net.bind_udp("127.0.0.1:0").unwrap();
    let (one, other) = (socket(), socket());
    let (here, there) = (one.local_addr().unwrap(), other.local_addr().unwrap());
    other.connect(here).unwrap();
    block_on(async {
        let (one, other) = (Async::new(one).unwrap(), Async::new(other).unwrap());
        let answer = spawn(async move {
            let mut buffer = [0; 16];
            let (length, from) = one.recv_from(&mut buffer).await.unwrap();
            one.send_to(&buffer[..length], from).await.unwrap();
            from
        });
        yield_now().await;
        assert_eq!(other.send(b"hello").await, Ok(5));
        let mut buffer = [0; 16];
        assert_eq!(other.recv(&mut buffer).await, Ok(5));
        assert_eq!(&buffer[..5], b"hello");
        assert_eq!(answer.await, Ok(there));
    })
    .unwrap();
}

#[test]
fn a_connection_that_is_not_made_says_why() {
    let server = StdListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    drop(server);
    let net = testing::net("connect tcp 127.0.0.1:*");
    let code = |address: SocketAddr| {
        let net = &net;
        block_on(async move { connect(net, address).await.unwrap_err().code() })
    };
    assert_eq!(code(address), Ok(ErrorCode::ConnectionRefused));
    assert_eq!(code("10.0.0.1:80".parse().unwrap()), Ok(ErrorCode::Denied));
}

#[test]
fn revoking_ends_a_task_that_waits() {
    let (net, revoker) = testing::net("bind,listen tcp 127.0.0.1:0; accept tcp 127.0.0.1:*")
        .revocable()
        .unwrap();
    block_on(async {
        let listener = Async::new(net.listen("127.0.0.1:0").unwrap()).unwrap();
        let task = spawn(async move { listener.accept().await.unwrap_err().code() });
        yield_now().await;
        revoker.revoke().unwrap();
        assert_eq!(task.await, Ok(ErrorCode::Revoked));
    })
    .unwrap();
}

#[test]
#[should_panic(expected = "only inside of")]
fn spawning_needs_an_executor() {
    spawn(async {});
}

#[test]
#[should_panic(expected = "can't run inside of")]
fn executors_are_not_nested() {
    let _ = block_on(async { block_on(async {}) });
}
