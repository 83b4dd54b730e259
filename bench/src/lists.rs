//! Pages of lists of 100,000 things, beside the same pages of lists of 1,000.
//!
//! Two servers stand on two folders that differ in nothing but how much is in them. A page must
//! take as long wherever it lies, whatever the list leaves out and however much there is. Every
//! list is first read from its beginning to its end, and must show what was put in.

use std::time::{Duration, Instant};

use posthouse_protocol::Micros;
use serde_json::Value;

use crate::{
    Outcome,
    http::{Connection, Wire},
    measure::{Report, Samples},
    patient::PatientModel,
    population::{Fate, Owner, Population, Resident, Thing},
    setup::Setup,
    stand::{KEY, Process},
};

/// What a client gets that asks for no other length.
const FEW: usize = 20;

/// A ratio above this is named as one that is not constant.
const CONSTANT: f64 = 2.0;

/// Runs it.
pub(crate) fn run(setup: &Setup) -> Outcome<Report> {
    let mut report = Report::new(
        "lists",
        "median to that of the same page where there are 1,000, for as many rows on the page",
    );
    // What is running stays so.
    let model = PatientModel::start()?;
    let (many, few, waiting) = setup.choose((100_000, 1000, 50), (400, 200, 5));
    let began = Instant::now();
    let mut large = Side::build(setup, (many, waiting), &model)?;
    report.fact(format!("to fill in {many} of each"), began.elapsed().as_secs_f64(), "s", "");
    let mut small = Side::build(setup, (few, waiting), &model)?;
    let lists = lists(&large.population).into_iter().zip(lists(&small.population));
    let mut pairs = Vec::new();
    for (list, same) in lists {
        let others = small.pages(setup, &same)?;
        for page in large.pages(setup, &list)? {
            let floor = small.floor(&same, &others, &page)?;
            let Page { place, limit, rows, .. } = &page;
            let name = format!("{}: {} {limit}, {rows} shown", list.name, place.name());
            pairs.push((name, page, floor));
        }
    }
    let mut slow = Vec::new();
    for (name, page, floor) in pairs {
        let (ours, theirs) = compare(setup, (&mut large, &page), (&mut small, &floor))?;
        // A short list has no page of a thousand.
        let rows = page.rows.max(1) as f64 / floor.rows.max(1) as f64;
        let (row, baseline) = (ours.row(name), theirs.row("").median() * rows);
        let ratio = row.median() / baseline;
        if ratio > CONSTANT {
            slow.push(format!("{} ({ratio:.2})", row.name()));
        }
        report.add([row.times_longer(Some(baseline))]);
    }
    match slow[..] {
        [] => report.note(format!("constant: no ratio is above {CONSTANT}")),
        _ => slow.iter().for_each(|one| report.note(format!("not constant: {one}"))),
    }
    Ok(report)
}

/// A server on a folder, and a connection to it. The server ends first, the folder goes last.
struct Side {
    client: Connection,
    _server: Process,
    population: Population,
}

impl Side {
    fn build(setup: &Setup, size: (usize, usize), model: &PatientModel) -> Outcome<Self> {
        let model = model.address();
        let population = Population::fill(setup, size, model)?;
        let server = Process::server(setup, &population.folder.path().join("data"), model)?;
        let client = Connection::open(server.address())?;
        // Sessions that were at work are taken up again.
        std::thread::sleep(Duration::from_millis(500));
        Ok(Self { client, _server: server, population })
    }

    /// Reads a list to its end, and gives the pages that are worth a look.
    fn pages(&mut self, setup: &Setup, list: &List) -> Outcome<Vec<Page>> {
        setup.go_on()?;
        let long = self.walk(list, list.most, None)?;
        let rows: usize = long.iter().map(|(_, rows)| rows).sum();
        if rows != list.expected {
            let List { name, expected, .. } = list;
            return Err(format!("{name} shows {rows} things instead of {expected}").into());
        }
        let place = |walked: &[Walked], place: Place| {
            let index = match place {
                Place::First => 0,
                Place::Middle => walked.len() / 2,
                Place::Last => walked.len() - 1,
            };
            let after = walked.get(index).and_then(|(after, _)| after.clone());
            (index > 0 || place == Place::First).then_some((place, after))
        };
        let mut wanted: Vec<_> = Place::ALL
            .iter()
            .filter_map(|one| place(&long, *one))
            .map(|at| (list.most, at))
            .collect();
        // The end of the list in short pages is near the beginning of its last long one.
        let end = self.walk(list, FEW, long.last().and_then(|(after, _)| after.clone()))?;
        let middle =
            if long.len() > 1 { place(&long, Place::Middle) } else { place(&end, Place::Middle) };
        let last = end.last().and_then(|(after, _)| after.clone());
        wanted.push((FEW, (Place::First, None)));
        wanted.extend(middle.map(|middle| (FEW, middle)));
        wanted.extend(last.map(|last| (FEW, (Place::Last, Some(last)))));
        let page = |(limit, (place, after)): (usize, (Place, Option<String>))| {
            self.page(list, limit, place, after)
        };
        wanted.into_iter().map(page).collect()
    }

    fn page(
        &mut self,
        list: &List,
        limit: usize,
        place: Place,
        after: Option<String>,
    ) -> Outcome<Page> {
        let request = list.page(limit, after.as_deref());
        let rows = shown(self.client.exchange(&request, 200)?)?.0;
        Ok(Page { limit, place, after, request, rows })
    }

    /// A page of this side that shows as many rows as one of the other, at the same place if
    /// there are as many behind it; else the one that shows the most.
    fn floor(&mut self, list: &List, pages: &[Page], like: &Page) -> Outcome<Page> {
        let mut best: Option<Page> = None;
        for place in [like.place, Place::Middle, Place::First] {
            for page in pages.iter().filter(|page| page.place == place) {
                let limit = like.rows.clamp(1, list.most);
                let floor = self.page(list, limit, place, page.after.clone())?;
                if floor.rows >= like.rows {
                    return Ok(floor);
                }
                if best.as_ref().is_none_or(|best| best.rows < floor.rows) {
                    best = Some(floor);
                }
            }
        }
        best.ok_or_else(|| "a list has no page".into())
    }

    /// Reads a list from some place to its end: each page's cursor, and how many rows it has.
    fn walk(&mut self, list: &List, limit: usize, from: Option<String>) -> Outcome<Vec<Walked>> {
        let (mut walked, mut after) = (Vec::new(), from);
        loop {
            let (rows, next) =
                shown(self.client.exchange(&list.page(limit, after.as_deref()), 200)?)?;
            walked.push((after, rows));
            match next {
                None => return Ok(walked),
                Some(_) if walked.len() > list.expected => {
                    return Err(format!("{} has no end", list.name).into());
                }
                next => after = next,
            }
        }
    }
}

/// The cursor that leads to a page, and how many rows that has.
type Walked = (Option<String>, usize);

/// How many rows a page shows, and the cursor of the next one.
fn shown(answer: &[u8]) -> Outcome<(usize, Option<String>)> {
    let answer: Value = serde_json::from_slice(answer)?;
    let rows = answer["data"].as_array().ok_or("a page has no data")?.len();
    Ok((rows, answer["next_page"].as_str().map(str::to_owned)))
}

/// A page that is asked for over and over.
struct Page {
    limit: usize,
    place: Place,
    /// The cursor that leads there; none for the first.
    after: Option<String>,
    request: Wire,
    rows: usize,
}

/// Where in its list a page lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    First,
    Middle,
    Last,
}

impl Place {
    const ALL: [Self; 3] = [Self::First, Self::Middle, Self::Last];

    fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Middle => "middle",
            Self::Last => "last",
        }
    }
}

/// Asks both sides in turn.
fn compare(
    setup: &Setup,
    (large, page): (&mut Side, &Page),
    (small, floor): (&mut Side, &Page),
) -> Outcome<(Samples, Samples)> {
    setup.go_on()?;
    let (most, time) = setup.choose((200, Duration::from_millis(200)), (3, Duration::MAX));
    let (mut ours, mut theirs) = (Samples::default(), Samples::default());
    let began = Instant::now();
    // The first one warms what has to be warm, and is not counted.
    for round in 0..=most {
        for (side, page, samples) in
            [(&mut *small, floor, &mut theirs), (&mut *large, page, &mut ours)]
        {
            let began = Instant::now();
            side.client.exchange(&page.request, 200)?;
            if round > 0 {
                samples.since(began);
            }
        }
        if round >= 10.min(most) && began.elapsed() > time {
            break;
        }
    }
    Ok((ours, theirs))
}

/// A list with its filters.
struct List {
    name: String,
    path: String,
    filters: String,
    /// The longest page that it gives.
    most: usize,
    /// How many things it has to show.
    expected: usize,
}

impl List {
    fn new(name: &str, path: &str, filters: &str, most: usize, expected: usize) -> Self {
        let [name, path, filters] = [name, path, filters].map(str::to_owned);
        Self { name, path, filters, most, expected }
    }

    fn page(&self, limit: usize, after: Option<&str>) -> Wire {
        let Self { path, filters, .. } = self;
        let after = after.map(|after| format!("&page={after}")).unwrap_or_default();
        Wire::get(&format!("{path}?limit={limit}{filters}{after}"), KEY)
    }
}

/// Stretches of time by which lists are cut.
struct Stretches {
    /// Where the middle half begins and ends.
    half: (Micros, Micros),
    /// When one thing was made, and nothing else in the next second.
    one: Micros,
    /// When nothing was made yet.
    never: Micros,
}

impl Stretches {
    fn of(population: &Population) -> Self {
        let Population { count, .. } = population;
        let half = (population.at(count / 4), population.at(count * 3 / 4));
        Self { half, one: population.at(count / 2), never: population.at(count + 7200) }
    }

    fn halved(&self, at: Micros) -> bool {
        (self.half.0..self.half.1).contains(&at)
    }
}

/// A bound of a list.
fn created(operator: &str, at: Micros) -> String {
    format!("&created_at[{operator}]={}", at.to_rfc3339())
}

const ARCHIVED: &str = "&include_archived=true";

/// All lists that are measured, in an order that does not depend on the population.
fn lists(population: &Population) -> Vec<List> {
    let mut lists = things(population);
    sessions(population, |name, filters, wanted| {
        let expected = population.sessions.iter().filter(|one| wanted(one)).count();
        lists.push(List::new(name, "/v1/sessions", filters, 1000, expected));
    });
    lists
}

/// Lists of everything but sessions.
fn things(population: &Population) -> Vec<List> {
    let Stretches { half: (from, to), one, never } = Stretches::of(population);
    let count = |things: &[Thing], wanted: &dyn Fn(&Thing) -> bool| {
        things.iter().filter(|one| wanted(one)).count()
    };
    let live = |thing: &Thing| !thing.archived;
    let mut lists = Vec::new();
    let mut agents = |name: &str, filters: &str, wanted: &dyn Fn(&Thing) -> bool| {
        let expected = count(&population.agents, wanted);
        lists.push(List::new(name, "/v1/agents", filters, 100, expected));
    };
    agents("agents", "", &live);
    agents("agents, archived", ARCHIVED, &|_| true);
    agents("agents, gte lte", &(created("gte", from) + &created("lte", to)), &|thing| {
        live(thing) && (from..=to).contains(&thing.at)
    });
    agents("agents, lte", &created("lte", from), &|thing| live(thing) && thing.at <= from);
    agents("agents, lte: all", &(created("lte", never) + ARCHIVED), &|_| true);
    let single = created("gte", one) + &created("lte", one) + ARCHIVED;
    agents("agents, gte lte: one", &single, &|thing| thing.at == one);
    agents("agents, gte: none", &(created("gte", never) + ARCHIVED), &|_| false);
    let path = format!("/v1/agents/{}/versions", population.versioned);
    lists.push(List::new("versions", &path, "", 100, population.count));
    let all = &population.environments;
    let environments = "/v1/environments";
    lists.push(List::new("environments", environments, "", 1000, count(all, &live)));
    lists.push(List::new("environments, archived", environments, ARCHIVED, 1000, all.len()));
    lists.push(List::new("files", "/v1/files", "", 1000, population.files.len()));
    let scope = format!("&scope_id={}", population.collector);
    let expected = count(&population.files, &|thing| thing.shared);
    lists.push(List::new("files, session", "/v1/files", &scope, 1000, expected));
    lists.push(List::new("files, session: none", "/v1/files", "&scope_id=sesn_nobody", 1000, 0));
    lists
}

/// Lists of sessions: a name, the filters, and what they let through.
fn sessions(population: &Population, mut list: impl FnMut(&str, &str, &dyn Fn(&Resident) -> bool)) {
    let stretches = Stretches::of(population);
    let Stretches { half: (from, to), one, never } = stretches;
    let half = created("gte", from) + &created("lt", to);
    let early = created("lt", from);
    let busy = format!("&agent_id={}", population.busy);
    let live = |session: &Resident| session.fate != Fate::Archived;
    let is = |fate: Fate| move |session: &Resident| session.fate == fate;
    let of_busy = |session: &Resident| session.owner == Owner::Busy;
    let halved = |session: &Resident| stretches.halved(session.at);

    list("sessions", "", &live);
    list("sessions, asc", "&order=asc", &live);
    list("sessions, archived", ARCHIVED, &|_| true);
    list("sessions, asc archived", &format!("&order=asc{ARCHIVED}"), &|_| true);

    list("sessions, idle", "&statuses=idle", &is(Fate::Idle));
    list("sessions, running", "&statuses=running", &is(Fate::Running));
    list("sessions, rescheduling", "&statuses=rescheduling", &is(Fate::Rescheduling));
    list("sessions, terminated: none", "&statuses=terminated", &|_| false);
    let terminated = format!("&statuses=terminated{ARCHIVED}");
    list("sessions, terminated archived", &terminated, &is(Fate::Archived));
    let at_work = "&statuses=running&statuses=rescheduling";
    list("sessions, two statuses", at_work, &|session| {
        matches!(session.fate, Fate::Running | Fate::Rescheduling)
    });
    list("sessions, three statuses", &format!("&statuses=idle{at_work}"), &live);

    list("sessions, agent", &busy, &|session| of_busy(session) && live(session));
    list("sessions, agent asc archived", &format!("{busy}&order=asc{ARCHIVED}"), &of_busy);
    list("sessions, agent running", &format!("{busy}&statuses=running"), &is(Fate::Running));
    let lonely = format!("&agent_id={}", population.lonely);
    list("sessions, agent: one", &lonely, &|session| session.owner == Owner::Lonely);
    list("sessions, agent: none", "&agent_id=agent_nobody", &|_| false);
    let version = |version: i64| format!("{busy}&agent_version={version}");
    list("sessions, version", &version(2), &|session| {
        of_busy(session) && live(session) && session.version == 2
    });
    list("sessions, version: one", &version(3), &|session| session.version == 3);
    list("sessions, version: none", &(version(4) + ARCHIVED), &|_| false);

    list("sessions, gte lt", &half, &|session| live(session) && halved(session));
    list("sessions, lt", &early, &|session| live(session) && session.at < from);
    list("sessions, lt asc", &format!("{early}&order=asc"), &|session| {
        live(session) && session.at < from
    });
    // Bounds that leave nothing out, far from where a page lies.
    list("sessions, lt: all", &(created("lt", never) + ARCHIVED), &|_| true);
    let all = created("gte", population.at(0)) + "&order=asc" + ARCHIVED;
    list("sessions, gte asc: all", &all, &|_| true);
    let single = created("gte", one) + &created("lt", one.plus(1)) + ARCHIVED;
    list("sessions, gte lt: one", &single, &|session| session.at == one);
    list("sessions, gte: none", &(created("gte", never) + ARCHIVED), &|_| false);

    list("sessions, agent gte lt archived", &format!("{busy}{half}{ARCHIVED}"), &|session| {
        of_busy(session) && halved(session)
    });
    let all = version(1) + "&statuses=idle&order=asc" + &half;
    list("sessions, version idle gte lt asc", &all, &|session| {
        of_busy(session) && session.version == 1 && session.fate == Fate::Idle && halved(session)
    });
    let nothing = format!("&statuses=terminated{half}");
    list("sessions, terminated gte lt: none", &nothing, &|_| false);
}
