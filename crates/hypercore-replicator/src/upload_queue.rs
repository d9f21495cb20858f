//! Requests of one peer that wait for their answer (npm `hypercore` 11, `lib/receiver-queue.js`).

use std::collections::{HashSet, VecDeque};

use hypercore_protocol::messages::{Message, Request};

/// The requests of a peer, and the answers that were made for some of them.
#[derive(Debug, Default)]
pub(crate) struct UploadQueue {
    urgent: VecDeque<Request>,
    normal: VecDeque<Request>,
    /// The one with the number 0, which asks whether we are on two histories; a newer one takes its place.
    conflict_check: Option<Request>,
    /// Numbers of those that wait in either: whoever takes back what does not wait has nothing searched.
    waiting: HashSet<u64>,
    /// Answers that are ready to be sent.
    ready: VecDeque<Message>,
}

impl UploadQueue {
    pub(crate) fn len(&self) -> usize {
        self.urgent.len() + self.normal.len() + usize::from(self.conflict_check.is_some())
    }

    /// True when there is nothing to answer and no answer to send.
    pub(crate) fn is_empty(&self) -> bool {
        !self.has_requests() && self.ready.is_empty()
    }

    /// Adds a request.
    pub(crate) fn push(&mut self, request: Request) {
        if request.id == 0 {
            self.conflict_check = Some(request);
            return;
        }
        self.waiting.insert(request.id);
        let queue = if request.priority > 0 { &mut self.urgent } else { &mut self.normal };
        queue.push_back(request);
    }

    /// Takes a request back.
    pub(crate) fn cancel(&mut self, id: u64) {
        if id == 0 {
            self.conflict_check = None;
        }
        if self.waiting.remove(&id) {
            for queue in [&mut self.urgent, &mut self.normal] {
                if let Some(at) = queue.iter().position(|queued| queued.id == id) {
                    queue.remove(at);
                    return;
                }
            }
        }
        self.ready.retain(|message| match message {
            Message::Data(data) => data.request != id,
            Message::NoData(no_data) => no_data.request != id,
            _ => true,
        });
    }

    /// The next requests, urgent ones first.
    pub(crate) fn take(&mut self, count: usize) -> Vec<Request> {
        let urgent = self.urgent.len().min(count);
        let mut taken: Vec<Request> = self.urgent.drain(..urgent).collect();
        if taken.len() < count {
            taken.extend(self.conflict_check.take());
        }
        let normal = self.normal.len().min(count - taken.len());
        taken.extend(self.normal.drain(..normal));
        for request in &taken {
            self.waiting.remove(&request.id);
        }
        taken
    }

    pub(crate) fn has_requests(&self) -> bool {
        !self.urgent.is_empty() || self.conflict_check.is_some() || !self.normal.is_empty()
    }

    pub(crate) fn answer(&mut self, message: Message) {
        self.ready.push_back(message);
    }

    pub(crate) fn next_answer(&mut self) -> Option<Message> {
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: u64, priority: u64) -> Request {
        Request { id, priority, ..Request::default() }
    }

    #[test]
    fn urgent_requests_go_first_and_cancelled_ones_not_at_all() {
        let mut queue = UploadQueue::default();
        for id in 1..=4 {
            queue.push(request(id, 0));
        }
        queue.push(request(5, 1));
        queue.cancel(2);
        queue.cancel(77);
        let order: Vec<u64> = queue.take(3).into_iter().map(|request| request.id).collect();
        assert_eq!(order, [5, 1, 3]);
        assert_eq!(queue.len(), 1);
        queue.cancel(4);
        queue.cancel(4);
        assert!(queue.is_empty() && queue.waiting.is_empty());
    }

    #[test]
    fn a_conflict_check_waits_once() {
        let mut queue = UploadQueue::default();
        for id in 1..=3 {
            queue.push(request(id, 0));
        }
        for priority in [0, 0, 1, 0] {
            queue.push(request(0, priority));
        }
        assert_eq!(queue.len(), 4);
        let order: Vec<u64> = queue.take(3).into_iter().map(|request| request.id).collect();
        assert_eq!(order, [0, 1, 2]);
        queue.push(request(0, 0));
        queue.cancel(0);
        assert_eq!((queue.len(), queue.take(3).len()), (1, 1));
    }
}
