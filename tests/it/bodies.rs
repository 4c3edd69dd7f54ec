//! Request bodies of any size, on any wire, arrive unchanged or are refused early.

use perpetuo::simulator::{Behaviour, Simulator};

use crate::support::{World, hello};

#[tokio::test]
async fn smoke() {
    let simulator = Simulator::start(Behaviour::new("acme")).await.unwrap();
    let mut world = World::plain().await;
    world.add("openai", &simulator, |_| ());
    let answer = world.chat(&hello("gpt-4o")).await;
    assert_eq!((answer.status, answer.attempts()), (200, 1), "{}", answer.text());
    assert_eq!(world.booking().await.status, 200);
    world.stop(false).await;
}
