//! One file of handlers a noun, and the list of all routes.

mod clock;
mod events;
mod journal;
mod runs;
mod sessions;
mod status;
mod waits;

use super::app::App;
use super::routes::Route;

/// Every route of the interface but those that each daemon has by itself.
pub fn routes() -> Vec<Route<App>> {
    let mut routes = sessions::routes();
    routes.extend(runs::routes());
    routes.extend(waits::routes());
    routes.extend(journal::routes());
    routes.extend(events::routes());
    routes.extend(status::routes());
    routes.extend(clock::routes());
    routes
}

/// A page that a query asks for.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    limit: Option<usize>,
    cursor: Option<String>,
}

impl From<PageQuery> for crate::projections::Paging {
    fn from(query: PageQuery) -> Self {
        Self { limit: query.limit, cursor: query.cursor }
    }
}
