// SPDX-License-Identifier: MIT
// A Rust program under test: collections, closures, trait objects, threads, and panics that are caught.
use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc;
use std::thread;

trait Shape {
    fn name(&self, depth: usize) -> String;
}

struct Leaf(String);
struct Branch(Vec<Box<dyn Shape>>);

impl Shape for Leaf {
    fn name(&self, depth: usize) -> String {
        format!("{}{}", " ".repeat(depth), self.0)
    }
}

impl Shape for Branch {
    fn name(&self, depth: usize) -> String {
        self.0.iter().map(|s| s.name(depth + 1)).collect::<Vec<_>>().join("\n")
    }
}

fn grow(depth: usize, seed: &mut u64) -> Box<dyn Shape> {
    *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    if depth == 0 {
        return Box::new(Leaf(format!("leaf {}", *seed >> 40)));
    }
    let width = 2 + (*seed >> 60) as usize % 3;
    Box::new(Branch((0..width).map(|_| grow(depth - 1, seed)).collect()))
}

fn fragile(n: u64) -> Vec<String> {
    let kept: Vec<String> = (0..n % 7).map(|i| format!("kept {}", i)).collect();
    if n % 3 == 0 {
        panic!("planned {}", n);
    }
    kept
}

fn work(seed: u64) -> usize {
    let mut seed = seed;
    let mut words: HashMap<String, Vec<usize>> = HashMap::new();
    let tree = grow(7, &mut seed);
    for (i, line) in tree.name(0).lines().enumerate() {
        words.entry(line.trim().to_string()).or_default().push(i);
    }
    let sorted: BTreeMap<usize, String> = words.iter().map(|(k, v)| (v[0], k.to_uppercase())).collect();
    let caught = (0..60).filter(|n| std::panic::catch_unwind(|| fragile(*n)).is_err()).count();
    let mut list: Vec<&String> = sorted.values().collect();
    list.sort_by_key(|s| s.chars().rev().collect::<String>());
    list.len() + caught
}

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let (sender, receiver) = mpsc::channel();
    let threads: Vec<_> = (1..4u64)
        .map(|i| {
            let sender = sender.clone();
            thread::spawn(move || sender.send(work(i)).unwrap())
        })
        .collect();
    for t in threads {
        t.join().unwrap();
    }
    drop(sender);
    println!("{}", receiver.iter().sum::<usize>() + work(9));
}
