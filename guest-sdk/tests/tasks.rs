//! The executor, on the stand-in of native builds.

#![cfg(not(target_family = "wasm"))]

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io::{Read, Write};
use std::net::TcpStream as StdStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use refcap_guest::task::{Async, block_on, connect, sleep, spawn, timeout, yield_now};
use refcap_guest::{ErrorCode, testing};

const MS: Duration = Duration::from_millis(1);

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
    let log = Rc::new(RefCell::new(Vec::new()));
    let begun = Instant::now();
    block_on(async {
        let tasks: Vec<_> = [30, 10, 20]
            .map(|time| {
                let log = log.clone();
                spawn(async move {
                    sleep(time * MS).await.unwrap();
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
    assert!(begun.elapsed() >= 30 * MS);
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

#[test]
#[should_panic(expected = "only inside of")]
fn spawning_needs_an_executor() {
    spawn(async {});
}
