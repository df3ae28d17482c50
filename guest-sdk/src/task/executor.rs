//! Who runs next.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use refcap_abi::ErrorCode;
use slab::Slab;

use super::reactor::Reactor;
use crate::{Error, Result};

/// Where a task is, and a number that no other task ever has: it tells whether it is still the one that is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TaskId {
    place: usize,
    number: u64,
}

/// The future of [`block_on`] itself, which has no place.
const MAIN: TaskId = TaskId {
    place: usize::MAX,
    number: 0,
};

/// What one call of [`block_on`] runs.
pub(super) struct Executor {
    tasks: RefCell<Tasks>,
    queue: Arc<Queue>,
    pub(super) reactor: Reactor,
}

#[derive(Default)]
struct Tasks {
    slab: Slab<Task>,
    /// How many there were.
    count: u64,
}

impl Tasks {
    fn get_mut(&mut self, id: TaskId) -> Option<&mut Task> {
        self.slab.get_mut(id.place).filter(|task| task.waker.id == id)
    }

    fn remove(&mut self, id: TaskId) -> Option<Task> {
        self.get_mut(id)?;
        self.slab.try_remove(id.place)
    }
}

struct Task {
    /// `None` while it is polled.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    waker: Arc<TaskWaker>,
}

/// Tasks to be polled, each once. A lock, since wakers may be sent; there is only one thread to take it.
#[derive(Default)]
struct Queue(Mutex<VecDeque<TaskId>>);

impl Queue {
    fn push(&self, id: TaskId) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(id);
    }

    fn take(&self) -> VecDeque<TaskId> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct TaskWaker {
    id: TaskId,
    is_queued: AtomicBool,
    queue: Arc<Queue>,
}

impl TaskWaker {
    fn new(id: TaskId, queue: &Arc<Queue>) -> Arc<TaskWaker> {
        let waker = TaskWaker {
            id,
            is_queued: AtomicBool::new(true),
            queue: queue.clone(),
        };
        queue.push(id);
        Arc::new(waker)
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::Relaxed) {
            self.queue.push(self.id);
        }
    }
}

thread_local! {
    static RUNNING: RefCell<Option<Rc<Executor>>> = const { RefCell::new(None) };
}

/// The executor that runs the code that asks.
///
/// # Panics
///
/// Outside of [`block_on`].
pub(super) fn running() -> Rc<Executor> {
    RUNNING
        .with_borrow(Clone::clone)
        .expect("this works only inside of `refcap_guest::task::block_on`")
}

/// Stops being the one that runs, and drops the tasks, also when one of them panics.
struct Guard(Rc<Executor>);

impl Drop for Guard {
    fn drop(&mut self) {
        // Tasks hold sockets, which hold the executor: none may stay, also of those that a drop spawns.
        while !std::mem::take(&mut self.0.tasks.borrow_mut().slab).is_empty() {}
        // Dropped outside of the borrow: what it holds may ask who runs.
        drop(RUNNING.take());
    }
}

/// Runs a future, and all that it [spawns](spawn), until the future is done. What was spawned and is not done
/// then is dropped.
///
/// # Errors
///
/// The host has no room for a poller.
///
/// # Panics
///
/// Inside of another `block_on`.
pub fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    let executor = Rc::new(Executor {
        tasks: RefCell::default(),
        queue: Arc::default(),
        reactor: Reactor::new()?,
    });
    let is_first = RUNNING.with_borrow_mut(|running| {
        let is_first = running.is_none();
        if is_first {
            *running = Some(executor.clone());
        }
        is_first
    });
    assert!(is_first, "`block_on` can't run inside of `block_on`");
    let _guard = Guard(executor.clone());
    let main_waker = TaskWaker::new(MAIN, &executor.queue);
    let mut future = pin!(future);
    loop {
        for id in executor.queue.take() {
            if id != MAIN {
                executor.poll_task(id);
                continue;
            }
            main_waker.is_queued.store(false, Ordering::Relaxed);
            let waker = Waker::from(main_waker.clone());
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Ok(value);
            }
        }
        let is_idle = executor
            .queue
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty();
        executor.reactor.turn(is_idle)?;
    }
}

impl Executor {
    fn poll_task(&self, id: TaskId) {
        let taken = {
            let mut tasks = self.tasks.borrow_mut();
            tasks.get_mut(id).and_then(|task| {
                task.waker.is_queued.store(false, Ordering::Relaxed);
                Some((task.future.take()?, Waker::from(task.waker.clone())))
            })
        };
        // It was aborted, or is done.
        let Some((mut future, waker)) = taken else { return };
        let is_done = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let mut tasks = self.tasks.borrow_mut();
        let left_over = if is_done {
            tasks.remove(id);
            Some(future)
        } else if let Some(task) = tasks.get_mut(id) {
            task.future = Some(future);
            None
        } else {
            // It aborted itself.
            Some(future)
        };
        // What a future drops may ask the executor.
        drop(tasks);
        drop(left_over);
    }
}

/// Runs a future beside the others. Dropping the handle lets it run on.
///
/// # Panics
///
/// Outside of [`block_on`].
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    let executor = running();
    let outcome = Rc::new(RefCell::new(Outcome {
        value: None,
        is_done: false,
        waker: None,
    }));
    let finish = Finish(outcome.clone());
    let future = async move {
        let value = future.await;
        finish.with(value);
    };
    let future = Box::pin(future);
    let id = {
        let mut tasks = executor.tasks.borrow_mut();
        tasks.count += 1;
        let id = TaskId {
            place: tasks.slab.vacant_key(),
            number: tasks.count,
        };
        tasks.slab.insert(Task {
            future: Some(future),
            waker: TaskWaker::new(id, &executor.queue),
        });
        id
    };
    JoinHandle {
        id,
        executor: Rc::downgrade(&executor),
        outcome,
    }
}

/// A task that was spawned: a future of what it returns.
#[derive(Debug)]
pub struct JoinHandle<T> {
    id: TaskId,
    executor: Weak<Executor>,
    outcome: Rc<RefCell<Outcome<T>>>,
}

#[derive(Debug)]
struct Outcome<T> {
    value: Option<T>,
    is_done: bool,
    waker: Option<Waker>,
}

impl<T> Outcome<T> {
    fn finish(outcome: &RefCell<Outcome<T>>, value: Option<T>) {
        let waker = {
            let mut outcome = outcome.borrow_mut();
            if outcome.is_done {
                return;
            }
            outcome.is_done = true;
            outcome.value = value;
            outcome.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Tells of a task's end, however that comes about.
struct Finish<T>(Rc<RefCell<Outcome<T>>>);

impl<T> Finish<T> {
    fn with(self, value: T) {
        Outcome::finish(&self.0, Some(value));
    }
}

impl<T> Drop for Finish<T> {
    fn drop(&mut self) {
        Outcome::finish(&self.0, None);
    }
}

impl<T> JoinHandle<T> {
    /// Ends the task. Waiting for it is an error then, unless it was done before.
    pub fn abort(&self) {
        if let Some(executor) = self.executor.upgrade() {
            let task = executor.tasks.borrow_mut().remove(self.id);
            // Dropped outside of the borrow: what it holds may ask the executor.
            drop(task);
        }
        // A task that aborts itself is dropped later.
        Outcome::finish(&self.outcome, None);
    }

    /// Whether the task is done, was aborted, or was dropped with its [`block_on`].
    pub fn is_finished(&self) -> bool {
        self.outcome.borrow().is_done
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T>;

    /// What the task returned.
    ///
    /// An error when it was [aborted](JoinHandle::abort) or dropped with its [`block_on`], or when what it
    /// returned was taken already.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let mut outcome = self.outcome.borrow_mut();
        if !outcome.is_done {
            outcome.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        let aborted = || Error::new(ErrorCode::Closed, "wait for a task", "the task was aborted");
        Poll::Ready(outcome.value.take().ok_or_else(aborted))
    }
}

/// Lets the other tasks have their turn.
pub async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|context| {
        if has_yielded {
            return Poll::Ready(());
        }
        has_yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
