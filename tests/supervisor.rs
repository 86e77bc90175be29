//! The supervisor by itself: who is restarted, in which order, and when it gives up.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorate::supervisor::{
    Address, ChildSpec, ChildState, Exhausted, Heartbeat, Intensity, Message, Restart, Settings,
    Strategy, Supervisor, Tree,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::{Instant, sleep};

type Log = Arc<Mutex<Vec<String>>>;

struct Child {
    name: &'static str,
    log: Log,
}

enum Order {
    Ping,
    Die,
    Leave,
}

impl Heartbeat for Order {
    fn ping(_: Instant) -> Self {
        Self::Ping
    }
}

impl Actor for Child {
    type Msg = Order;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Order>, (): ()) -> Result<(), ActorProcessingErr> {
        self.log.lock().push(format!("start {}", self.name));
        Ok(())
    }

    async fn handle(
        &self,
        me: ActorRef<Order>,
        order: Order,
        _: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Ping => Ok(()),
            Order::Die => panic!("told to"),
            Order::Leave => {
                me.stop(None);
                Ok(())
            }
        }
    }

    async fn post_stop(&self, _: ActorRef<Order>, _: &mut ()) -> Result<(), ActorProcessingErr> {
        self.log.lock().push(format!("stop {}", self.name));
        Ok(())
    }
}

struct Family {
    root: ActorRef<Message>,
    children: Vec<Address<Order>>,
    log: Log,
    tree: Tree,
}

async fn family(strategy: Strategy, exhausted: Exhausted, restart: Restart) -> Family {
    let log = Log::default();
    let tree = Tree::default();
    let mut children = Vec::new();
    let mut specs = Vec::new();
    for name in ["a", "b", "c"] {
        let address = Address::vacant();
        let log = Arc::clone(&log);
        let make = move || {
            (
                Child {
                    name,
                    log: Arc::clone(&log),
                },
                (),
            )
        };
        specs.push(ChildSpec::new(name, address.clone(), make).restart(restart));
        children.push(address);
    }
    static INSTANCE: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let instance = INSTANCE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let settings = Settings {
        instance: format!("test-{instance}"),
        path: "root".into(),
        strategy,
        intensity: Intensity {
            max_restarts: 2,
            window: Duration::from_secs(60),
        },
        exhausted,
        tree: tree.clone(),
    };
    let (root, _) = Actor::spawn(None, Supervisor, (settings, specs))
        .await
        .unwrap();
    log.lock().clear();
    Family {
        root,
        children,
        log,
        tree,
    }
}

impl Family {
    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while !holds(self) {
            assert!(
                Instant::now() < until,
                "never came true: {what}; {:?}",
                self.log.lock()
            );
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn tell(&self, child: usize, order: Order) {
        assert!(self.children[child].send(order).is_ok());
    }

    fn restarts(&self, path: &str) -> u64 {
        self.tree
            .children()
            .iter()
            .find(|child| child.path == path)
            .map_or(0, |child| child.restarts)
    }
}

#[tokio::test]
async fn one_for_one_restarts_the_dead_alone() {
    let family = family(Strategy::OneForOne, Exhausted::Escalate, Restart::Permanent).await;
    family.tell(1, Order::Die);
    family
        .until("b is back", |f| f.restarts("root/b") == 1)
        .await;
    assert_eq!(*family.log.lock(), ["start b"]);
}

#[tokio::test]
async fn rest_for_one_stops_the_later_siblings_in_reverse_and_restarts_all_in_order() {
    let family = family(
        Strategy::RestForOne,
        Exhausted::Escalate,
        Restart::Permanent,
    )
    .await;
    family.tell(0, Order::Ping);
    family.tell(1, Order::Die);
    family
        .until("c is back", |f| f.restarts("root/c") == 1)
        .await;
    assert_eq!(*family.log.lock(), ["stop c", "start b", "start c"]);
    assert_eq!(
        (family.restarts("root/a"), family.restarts("root/b")),
        (0, 1)
    );
}

#[tokio::test]
async fn a_stop_ends_the_children_in_reverse_each_by_its_own_post_stop() {
    let family = family(Strategy::OneForOne, Exhausted::Escalate, Restart::Permanent).await;
    family.root.stop(None);
    family.root.wait(None).await.unwrap();
    assert_eq!(*family.log.lock(), ["stop c", "stop b", "stop a"]);
}

#[tokio::test]
async fn past_the_intensity_it_escalates_or_leaves_that_child_down() {
    for exhausted in [Exhausted::Escalate, Exhausted::Abandon] {
        let family = family(Strategy::OneForOne, exhausted, Restart::Permanent).await;
        for death in 0..3 {
            family
                .until("it is up", |f| f.restarts("root/b") == death)
                .await;
            family.tell(1, Order::Die);
        }
        family
            .until("b is given up", |f| {
                f.tree.state("root/b") == Some(ChildState::Abandoned)
            })
            .await;
        if exhausted == Exhausted::Escalate {
            family
                .root
                .wait(Some(Duration::from_secs(10)))
                .await
                .unwrap();
            assert!(
                family.log.lock().contains(&"stop a".to_owned()),
                "the others end in order"
            );
        } else {
            assert_eq!(family.tree.state("root/a"), Some(ChildState::Running));
            family.tell(0, Order::Ping);
        }
    }
}

#[tokio::test]
async fn a_transient_child_that_leaves_is_let_go_and_one_that_dies_is_not() {
    let family = family(Strategy::OneForOne, Exhausted::Escalate, Restart::Transient).await;
    family.tell(0, Order::Leave);
    family
        .until("a is gone", |f| {
            f.tree.state("root/a") == Some(ChildState::Stopped)
        })
        .await;
    family.tell(1, Order::Die);
    family
        .until("b is back", |f| f.restarts("root/b") == 1)
        .await;
    assert_eq!(*family.log.lock(), ["stop a", "start b"]);
}
