mod databases;
#[cfg(feature = "rocksdb")]
mod folders;
mod garbage;
mod known_answers;
mod models;
