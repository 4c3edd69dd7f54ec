//! Which streams wait for their client: the client says that bytes came, the provider sends the next event.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use tokio::sync::Notify;

/// The streams under way, by the number that their request carries.
#[derive(Default)]
pub struct Steps {
    waiting: RefCell<HashMap<u64, Rc<Notify>>>,
}

impl Steps {
    /// The sign of one stream, made when it is first asked for.
    pub fn of(&self, stream: u64) -> Rc<Notify> {
        Rc::clone(self.waiting.borrow_mut().entry(stream).or_default())
    }

    /// Forgets a stream that is over.
    pub fn forget(&self, stream: u64) {
        self.waiting.borrow_mut().remove(&stream);
    }
}
