//! One connection, below HTTP: the bytes a client sends are screened before the HTTP library sees them, because it accepts
//! and normalises what must be refused (two lengths, bare line feeds, a length beside chunks).

pub mod accept;
mod answer;
mod body;
mod budget;
mod chunks;
mod head;
mod screen;
mod timer;

pub use answer::AnswerBody;
pub use body::{Answering, InFlight, RequestBody};
pub(crate) use body::{too_large, whole};
pub use budget::{BodyBudget, BodyShare};
pub use head::{Framing, HeadFault, check};
pub use screen::{SCREEN_HEADER, ScreenedStream};
