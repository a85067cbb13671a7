//! Fuel checks: places where a guest's fuel is looked at, beside those that the engine makes.
//!
//! The engine looks where a function begins and where a loop goes round, not where a call returns. So what
//! a guest does between two looks is bounded by the size of a function alone; and on the way back from
//! calls within calls there is none at all: ten thousand of them could each have a megabyte of code behind
//! the next, and go through all of it on fuel that ended long ago, deaf to a deadline.
//!
//! Here a module gets an empty function of its own, and calls of it where they are missing: the engine
//! looks when it begins. The places depend on the module and the cost schedule, on nothing else.
//!
//! Invariant of what leaves: no way through a function weighs more than [`STRAIGHT_FUEL_MAX`] (and one
//! operator) from one look to the next, nor more than [`RETURN_FUEL_MAX`] from the return of a call to that
//! of its function. Operators whose weight grows with an operand are followed by a look of the engine's.

use crate::cost::{OPERATOR_CLASSES, RETURN_FUEL_MAX, STRAIGHT_FUEL_MAX};
use std::{collections::HashMap, ops::Range, sync::LazyLock};
use wasm_encoder::{Encode, Module, RawSection, SectionId};
use wasmparser::{
    BinaryReader, BinaryReaderError, FunctionBody, Operator, Parser, Payload, TypeRef,
};

/// A valid module, with fuel checks.
///
/// # Errors
/// None for a valid module: readers could fail, and their errors are handed on.
pub(crate) fn with_fuel_checks(module: &[u8]) -> Result<Vec<u8>, BinaryReaderError> {
    let bytes = |range: Range<u64>| &module[range.start as usize..range.end as usize];
    let (mut types, mut imported, mut defined, mut read) = (0, 0, 0, 0);
    let mut out = Module::new();
    let mut bodies = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        match &payload {
            Payload::TypeSection(section) => {
                types = section.count();
                one_more(&mut out, SectionId::Type, bytes(section.range()), types, &NO_TYPE)?;
                continue;
            }
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    imported += u32::from(matches!(import?.ty, TypeRef::Func(_)));
                }
            }
            Payload::FunctionSection(section) => {
                defined = section.count();
                let mut ty = Vec::new();
                types.encode(&mut ty);
                one_more(&mut out, SectionId::Function, bytes(section.range()), defined, &ty)?;
                continue;
            }
            Payload::CodeSectionStart { .. } => {
                (defined + 1).encode(&mut bodies);
                continue;
            }
            Payload::CodeSectionEntry(body) => {
                let places = places(body, imported)?;
                // The index after all others: theirs stay.
                let check = imported + defined;
                with_calls(bytes(body.range()), body.range().start, &places, check)
                    .encode(&mut bodies);
                read += 1;
                if read == defined {
                    bodies.extend(EMPTY_BODY);
                    let data = &bodies;
                    out.section(&RawSection { id: SectionId::Code.into(), data });
                }
                continue;
            }
            _ => {} // kept as it is
        }
        if let Some((id, range)) = payload.as_section() {
            out.section(&RawSection { id, data: bytes(range) });
        }
    }
    Ok(out.finish())
}

/// The type of a function that takes and gives nothing.
const NO_TYPE: [u8; 3] = [0x60, 0, 0];

/// Two bytes: no locals, and the end.
const EMPTY_BODY: [u8; 3] = [2, 0, 0x0b];

/// A section of so many items, with one more.
fn one_more(
    out: &mut Module,
    id: SectionId,
    section: &[u8],
    items: u32,
    item: &[u8],
) -> Result<(), BinaryReaderError> {
    let mut count = BinaryReader::new(section, 0);
    count.read_var_u32()?;
    let mut data = Vec::with_capacity(section.len() + item.len() + 1);
    (items + 1).encode(&mut data);
    data.extend(&section[count.current_position()..]);
    data.extend(item);
    out.section(&RawSection { id: id.into(), data: &data });
    Ok(())
}

/// A body with calls of a function at these places, which are in order and count from where `start` does.
fn with_calls(body: &[u8], start: u64, places: &[u64], function: u32) -> Vec<u8> {
    let mut call = vec![0x10];
    function.encode(&mut call);
    let mut out = Vec::with_capacity(body.len() + places.len() * call.len());
    let mut copied = 0;
    for place in places {
        let place = (place - start) as usize;
        out.extend(&body[copied..place]);
        out.extend(&call);
        copied = place;
    }
    out.extend(&body[copied..]);
    out
}

/// What an operator does to the way through its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// On to the next.
    On,
    Block,
    Loop,
    If,
    Else,
    End,
    /// To a label, that of the function included.
    Branch(u32),
    BranchIf(u32),
    /// To one of these in the list of all targets.
    BranchTable {
        first: u32,
        count: u32,
    },
    Return,
    Unreachable,
    /// Into a function of the guest.
    Call,
    /// Into the host, which looks at the fuel itself.
    HostCall,
}

/// An operator.
#[derive(Clone, Copy, Debug)]
struct Place {
    step: Step,
    /// Its fuel.
    weight: u8,
    /// Where it begins.
    at: u64,
}

/// A function's operators.
struct Body {
    places: Vec<Place>,
    /// Of all `br_table`s.
    targets: Vec<u32>,
}

impl Body {
    fn read(body: &FunctionBody<'_>, imported: u32) -> Result<Self, BinaryReaderError> {
        let (mut places, mut targets) = (Vec::new(), Vec::new());
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let (operator, at) = operators.read_with_offset()?;
            let step = match &operator {
                Operator::Block { .. } => Step::Block,
                Operator::Loop { .. } => Step::Loop,
                Operator::If { .. } => Step::If,
                Operator::Else => Step::Else,
                Operator::End => Step::End,
                Operator::Br { relative_depth } => Step::Branch(*relative_depth),
                Operator::BrIf { relative_depth } => Step::BranchIf(*relative_depth),
                Operator::BrTable { targets: table } => {
                    let first = targets.len() as u32;
                    for target in table.targets() {
                        targets.push(target?);
                    }
                    targets.push(table.default());
                    Step::BranchTable { first, count: targets.len() as u32 - first }
                }
                Operator::Return => Step::Return,
                Operator::Unreachable => Step::Unreachable,
                Operator::Call { function_index } if *function_index < imported => Step::HostCall,
                Operator::Call { .. } | Operator::CallIndirect { .. } => Step::Call,
                _ => Step::On,
            };
            places.push(Place { step, weight: weight(&operator), at });
        }
        Ok(Self { places, targets })
    }

    fn targets(&self, first: u32, count: u32) -> &[u32] {
        &self.targets[first as usize..][..count as usize]
    }
}

/// Where a function needs fuel checks: places of operators before which they go, in order.
fn places(body: &FunctionBody<'_>, imported: u32) -> Result<Vec<u64>, BinaryReaderError> {
    let body = Body::read(body, imported)?;
    let long_returns = long_returns(&body);
    Ok(straight(&body, &long_returns))
}

/// How the ways of a function end that begin at a place: with a look, or with the function's return
/// after this much fuel and no look. The dearest way counts.
type ToReturn = Option<u64>;

/// Which operators are calls whose return needs a look: for each operator, whether it is one.
///
/// Goes backwards: what a way still weighs is known when what follows is.
fn long_returns(body: &Body) -> Vec<bool> {
    struct Frame {
        step: Step,
        /// From its label.
        label: ToReturn,
        /// From the `else`, for an `if` that has one.
        otherwise: Option<ToReturn>,
    }
    // Which block each `end` ends, so that a branch to a loop is known from behind.
    let mut begun = Vec::new();
    let mut ends = HashMap::new();
    for (index, place) in body.places.iter().enumerate() {
        match place.step {
            Step::Block | Step::Loop | Step::If => begun.push(place.step),
            Step::End => {
                ends.insert(index, begun.pop().unwrap_or(Step::Block));
            }
            _ => {}
        }
    }
    let mut marks = vec![false; body.places.len()];
    let mut frames: Vec<Frame> = Vec::new();
    let mut now: ToReturn = Some(0);
    for (index, place) in body.places.iter().enumerate().rev() {
        let weight = u64::from(place.weight);
        let and_this = |way: ToReturn| way.map(|fuel| fuel + weight);
        let label = |depth: u32| {
            let at = frames.len().checked_sub(1 + depth as usize);
            // Beyond all blocks is the function itself.
            at.map_or(Some(0), |at| frames[at].label)
        };
        now = match place.step {
            Step::On => and_this(now),
            Step::End => {
                let step = ends.get(&index).copied().unwrap_or(Step::Block);
                let label = if step == Step::Loop { None } else { now };
                frames.push(Frame { step, label, otherwise: None });
                now
            }
            Step::Else => match frames.last_mut() {
                Some(frame) => {
                    frame.otherwise = Some(now);
                    frame.label
                }
                None => now,
            },
            Step::Block | Step::Loop | Step::If => match frames.pop() {
                Some(Frame { step: Step::Loop, .. }) => None,
                Some(Frame { step: Step::If, label, otherwise }) => {
                    and_this(now.max(otherwise.unwrap_or(label)))
                }
                _ => now,
            },
            Step::Branch(depth) => and_this(label(depth)),
            Step::BranchIf(depth) => and_this(now.max(label(depth))),
            Step::BranchTable { first, count } => {
                let ways = body.targets(first, count).iter().map(|depth| label(*depth));
                and_this(ways.max().flatten())
            }
            Step::Return => Some(weight),
            Step::Unreachable | Step::HostCall => None,
            Step::Call => {
                marks[index] = now.is_some_and(|fuel| fuel > RETURN_FUEL_MAX);
                None
            }
        };
    }
    marks
}

/// Adds the looks of long straight ways to those behind these calls.
///
/// Goes forwards: `since` is what the dearest way to a place weighs since the last look; none where no way
/// goes.
fn straight(body: &Body, looks_behind: &[bool]) -> Vec<u64> {
    struct Frame {
        step: Step,
        /// At the beginning of an `if`.
        begun: Option<u64>,
        /// At its end, on the ways there so far.
        ended: Option<u64>,
    }
    let mut looks = Vec::new();
    let mut frames: Vec<Frame> = Vec::new();
    let mut since = Some(0);
    for (index, place) in body.places.iter().enumerate() {
        let weight = u64::from(place.weight);
        if since.is_some_and(|fuel| fuel + weight > STRAIGHT_FUEL_MAX) {
            looks.push(place.at);
            since = Some(0);
        }
        let with_this = since.map(|fuel| fuel + weight);
        // A way to the beginning of a loop comes to a look, one to the function's end ends.
        let mut branch = |depth: u32| {
            let at = frames.len().checked_sub(1 + depth as usize);
            if let Some(frame) = at.map(|at| &mut frames[at])
                && frame.step != Step::Loop
            {
                frame.ended = frame.ended.max(with_this);
            }
        };
        since = match place.step {
            Step::On => with_this,
            Step::Block => {
                frames.push(Frame { step: Step::Block, begun: None, ended: None });
                since
            }
            Step::Loop => {
                frames.push(Frame { step: Step::Loop, begun: None, ended: None });
                Some(0)
            }
            Step::If => {
                frames.push(Frame { step: Step::If, begun: with_this, ended: None });
                with_this
            }
            Step::Else => match frames.last_mut() {
                Some(frame) => {
                    frame.ended = frame.ended.max(since);
                    // From here on it is as a block.
                    frame.begun.take()
                }
                None => since,
            },
            Step::End => match frames.pop() {
                // `begun` is left where there was no `else`: then that way leads here as well.
                Some(Frame { begun, ended, .. }) => since.max(ended).max(begun),
                None => since,
            },
            Step::Branch(depth) => {
                branch(depth);
                None
            }
            Step::BranchIf(depth) => {
                branch(depth);
                with_this
            }
            Step::BranchTable { first, count } => {
                body.targets(first, count).iter().for_each(|depth| branch(*depth));
                None
            }
            Step::Return | Step::Unreachable => None,
            Step::Call | Step::HostCall => Some(0),
        };
        if looks_behind[index]
            && let Some(next) = body.places.get(index + 1)
        {
            looks.push(next.at);
            since = Some(0);
        }
    }
    looks.dedup();
    looks
}

/// An operator's fuel. Of classes without a weight there is none, nor of operators that no guest may have.
fn weight(operator: &Operator<'_>) -> u8 {
    macro_rules! name {
        ($(@$proposal:ident $operator:ident $({ $($argument:ident: $type:ty),* })? => $visit:ident ($($rest:tt)*))*) => {
            match operator {
                $(Operator::$operator { .. } => stringify!($operator),)*
                _ => "",
            }
        };
    }
    static WEIGHTS: LazyLock<HashMap<&str, u8>> = LazyLock::new(|| {
        let classes = OPERATOR_CLASSES.iter();
        classes.flat_map(|(_, weight, names)| names.iter().map(|name| (*name, *weight))).collect()
    });
    let name = wasmparser::for_each_operator!(name);
    WEIGHTS.get(name).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::{Config, Engine, Instance, Module, Store, Val};

    /// So many units of fuel, and nothing left on the stack.
    fn work(fuel: u64) -> String {
        // Weights: 1 and 0.
        "(drop (i32.const 1))".repeat(fuel as usize)
    }

    /// A module with one import, `$host`, and `$f`, whose one parameter is `n`.
    fn module(body: &str) -> Vec<u8> {
        let text = format!(
            "(module
               (import \"host\" \"call\" (func $host))
               (global $done (export \"done\") (mut i32) (i32.const 0))
               (table 1 funcref)
               (elem (i32.const 0) $f)
               (func $f (export \"f\") (param $n i32) {body}))"
        );
        wat::parse_str(text).expect("Wasm")
    }

    /// Before which operators of `$f` there are fuel checks, each by its number without them.
    fn looks(body: &str) -> Vec<usize> {
        let with = with_fuel_checks(&module(body)).expect("valid");
        wasmparser::Validator::new().validate_all(&with).expect("valid with fuel checks");
        let first = Parser::new(0).parse_all(&with).find_map(|payload| match payload {
            Ok(Payload::CodeSectionEntry(body)) => Some(body),
            _ => None,
        });
        let (mut number, mut looks) = (0, Vec::new());
        for operator in first.expect("a body").get_operators_reader().expect("operators") {
            match operator.expect("an operator") {
                Operator::Call { function_index: 2 } => looks.push(number),
                _ => number += 1,
            }
        }
        looks
    }

    #[test]
    fn a_return_is_looked_at_when_much_follows() {
        let call = "(call $f (i32.const 0))"; // 2 operators
        let (short, long) = (work(RETURN_FUEL_MAX), work(RETURN_FUEL_MAX + 1));
        for (body, expected) in [
            (long.clone(), vec![]),
            (call.to_owned(), vec![]),
            (format!("{call}{short}"), vec![]),
            (format!("{call}{long}"), vec![2]),
            (format!("(call_indirect (param i32) (i32.const 0) (i32.const 0)){long}"), vec![3]),
            // What comes next looks.
            (format!("{long}{call}{long}{call}{short}"), vec![]),
            (format!("{call}{long}{call}{long}"), vec![2 + 18 + 2]),
            (format!("{call}{long}(loop){long}"), vec![]),
            (format!("{call}{long}(call $host){long}"), vec![]),
            (format!("(call $host){long}"), vec![]),
            (format!("{call}{long}unreachable"), vec![]),
            // One way is enough.
            (format!("(if (local.get $n) (then {call})){long}"), vec![4]),
            (format!("{call}(if (local.get $n) (then (call $host))){long}"), vec![2]),
            (format!("{call}(if (local.get $n) (then (call $host)) (else {long}))"), vec![2]),
            (format!("{call}(if (local.get $n) (then (call $host)) (else (loop))){long}"), vec![]),
            (format!("{call}(if (local.get $n) (then return)){long}{call}"), vec![]),
            (format!("{call}{long}(if (local.get $n) (then return)){call}"), vec![2]),
            // Branches out of blocks, to the function's end and to the beginning of a loop.
            (format!("(block {call}(br 0)){long}"), vec![3]),
            (format!("(block (block {call}(br 1)){long}){}", work(RETURN_FUEL_MAX - 1)), vec![]),
            (format!("(block (block {call}(br 1)){long}){short}"), vec![4]),
            (format!("{call}{long}(br 0)"), vec![2]),
            (format!("(loop {call}{long}(br 0))"), vec![]),
            (format!("(loop {call}{long}(br_if 0 (local.get $n)))"), vec![3]),
            (format!("(loop {call}(br_if 0 (local.get $n)))"), vec![]),
            (format!("(block (block {call}(br_table 0 1 (local.get $n))){long})"), vec![4]),
            (format!("(loop (block {call}(br_table 1 1 (local.get $n)))){long}"), vec![]),
            (format!("(block {call}(br_if 0 (local.get $n)) (call $host)){long}"), vec![3]),
            (format!("(block {call}{long}(return)){call}"), vec![3]),
        ] {
            assert_eq!(looks(&body), expected, "{body}");
        }
    }

    #[test]
    fn a_straight_way_is_looked_at_once_it_is_long() {
        let (most, half) = (work(STRAIGHT_FUEL_MAX), work(STRAIGHT_FUEL_MAX / 2));
        let operators = 2 * STRAIGHT_FUEL_MAX as usize;
        let if_else = |then: &str, otherwise: &str| {
            format!("(if (i32.const 1) (then {then}) (else {otherwise}))")
        };
        for (body, expected) in [
            (most.clone(), vec![]),
            (format!("{most}{}", work(1)), vec![operators]),
            (most.repeat(3), vec![operators, 2 * operators]),
            (format!("{half}(loop){most}"), vec![]),
            (format!("{half}(call $host){most}"), vec![]),
            (format!("(loop {most})"), vec![]),
            // Of two ways, the dearer counts: the condition weighs 1, the `if` 4.
            (if_else(&half, &half), vec![]),
            (format!("{}{}", if_else(&half, &half), work(STRAIGHT_FUEL_MAX / 2 - 5)), vec![]),
            (
                format!("{}{}", if_else(&half, ""), work(STRAIGHT_FUEL_MAX / 2 - 4)),
                vec![2 + operators / 2 + 2 + operators / 2 - 10],
            ),
            // One of two ways has a look.
            (
                format!("{half}{}{half}", if_else("(call $host)", "")),
                vec![operators / 2 + 2 + 3 + operators / 2 - 10],
            ),
            (
                format!("{half}(if (i32.const 1) (then (call $host))){half}"),
                vec![operators / 2 + 2 + 2 + operators / 2 - 10],
            ),
            // Nobody comes here but by the branch.
            (format!("(block {half}(br 0) {most}){}", work(STRAIGHT_FUEL_MAX / 2 - 1)), vec![]),
            (
                format!("(block {half}(br 0) {most}){half}"),
                vec![2 + operators / 2 + operators + 1 + operators / 2 - 2],
            ),
            (format!("(block {half} return) {most}"), vec![]),
        ] {
            let found = looks(&body);
            assert_eq!(found, expected, "{}", body.chars().take(200).collect::<String>());
        }
    }

    /// Runs `f(n)` and gives what is in `done` afterwards, and whether it ended by its fuel.
    fn run(module: &[u8], n: i32, fuel: u64) -> (i32, bool) {
        let mut config = Config::new();
        config.consume_fuel(true).operator_cost(crate::cost::operator_cost());
        let engine = Engine::new(&config).expect("an engine");
        let module = Module::new(&engine, module).expect("a module");
        let mut store = Store::new(&engine, ());
        store.set_fuel(fuel).expect("fuel is counted");
        let host = wasmtime::Func::wrap(&mut store, || ());
        let instance = Instance::new(&mut store, &module, &[host.into()]).expect("an instance");
        let f = instance.get_func(&mut store, "f").expect("exported");
        let ended = f.call(&mut store, &[Val::I32(n)], &mut []);
        let out_of_fuel = ended.is_err_and(|error| {
            error.downcast_ref::<wasmtime::Trap>() == Some(&wasmtime::Trap::OutOfFuel)
        });
        let done = instance.get_global(&mut store, "done").expect("exported");
        (done.get(&mut store).i32().expect("a number"), out_of_fuel)
    }

    /// Each of a thousand calls within calls does a thousand pieces of work on the way back.
    #[test]
    fn the_way_back_from_calls_within_calls_ends_with_the_fuel() {
        let piece = "(global.set $done (i32.add (global.get $done) (i32.const 1)))"; // weighs 4
        let body = format!(
            "(if (local.get $n) (then (call $f (i32.sub (local.get $n) (i32.const 1))))) {}",
            piece.repeat(1_000)
        );
        let module = module(&body);
        // Enough for the way there, a hundredth of the way back.
        let fuel = 1_000 * 30 + 40_000;
        assert_eq!(run(&module, 999, fuel), (1_000_000, false), "what the engine alone does");
        let (done, out_of_fuel) = run(&with_fuel_checks(&module).expect("valid"), 999, fuel);
        assert!(out_of_fuel);
        assert!(u64::try_from(done).unwrap() * 4 < fuel + STRAIGHT_FUEL_MAX, "{done}");
    }

    #[test]
    fn straight_work_ends_with_the_fuel() {
        let body = "(global.set $done (i32.add (global.get $done) (i32.const 1)))".repeat(20_000);
        let module = module(&body);
        assert_eq!(run(&module, 0, 100), (20_000, false), "what the engine alone does");
        let (done, out_of_fuel) = run(&with_fuel_checks(&module).expect("valid"), 0, 100);
        assert!(out_of_fuel);
        assert!(u64::try_from(done).unwrap() * 4 <= STRAIGHT_FUEL_MAX, "{done}");
    }

    #[test]
    fn every_operator_that_guests_may_use_has_its_weight() {
        let nop = Operator::Nop;
        assert_eq!(
            (weight(&nop), weight(&Operator::I32Add), weight(&Operator::F32Mul)),
            (0, 1, 29)
        );
        assert_eq!(weight(&Operator::Loop { blockty: wasmparser::BlockType::Empty }), 66);
    }
}
