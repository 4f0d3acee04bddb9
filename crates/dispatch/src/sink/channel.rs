use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runpack_core::model::{DispatchTarget, NamespaceId, TenantId};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::SinkError;
use crate::broker::name;
use crate::content::Message;

/// Queues in this process, one for each subscriber.
///
/// What is handed over is delivered: whether a subscriber does anything with it
/// is for the subscriber. Only what is taken out makes room for more.
#[derive(Debug, Clone, Default)]
pub struct Channels(Arc<Mutex<Queues>>);

/// By target, one for each subscriber.
type Queues = BTreeMap<Place, Vec<Sender<Arc<Message>>>>;

/// A target in a namespace of a tenant.
type Place = (TenantId, NamespaceId, String);

/// What a subscriber gets.
pub type Subscription = Receiver<Arc<Message>>;

impl Channels {
    /// What is delivered to a target from now on, until the subscription is
    /// dropped. If `room` messages wait in it, there is no delivery to any
    /// subscriber of the target until one was taken out.
    pub fn subscribe(
        &self,
        tenant: TenantId,
        namespace: NamespaceId,
        target: &DispatchTarget,
        room: usize,
    ) -> Subscription {
        let (sender, receiver) = channel(room.max(1));
        self.lock().entry((tenant, namespace, name(target))).or_default().push(sender);
        receiver
    }

    /// Hands a message to all subscribers of its target, or to none.
    pub(crate) fn send(&self, message: Message) -> Result<usize, SinkError> {
        let place = (message.tenant_id, message.namespace_id, name(&message.target));
        let mut queues = self.lock();
        let Some(senders) = queues.get_mut(&place) else { return Err(SinkError::NoSubscriber(place.2)) };
        senders.retain(|sender| !sender.is_closed());
        if senders.is_empty() {
            queues.remove(&place);
            return Err(SinkError::NoSubscriber(place.2));
        }
        let permits: Result<Vec<_>, _> = senders.iter().map(Sender::try_reserve).collect();
        let permits = permits.map_err(|_| SinkError::Full(place.2))?;
        let (message, count) = (Arc::new(message), permits.len());
        permits.into_iter().for_each(|permit| permit.send(message.clone()));
        Ok(count)
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
