// What benches measure with; included where `std::fs` is in use. CPU is user and system time of whole child
// processes, so it does not move with the load of the machine.

/// User and system seconds that children have used, as far as they were waited for.
fn children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[13].parse::<u64>().unwrap() + fields[14].parse::<u64>().unwrap();
    ticks as f64 / 100.0
}

/// Seconds of CPU that the children of `work` used.
fn cpu_of(work: impl FnOnce()) -> f64 {
    let before = children();
    work();
    children() - before
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
