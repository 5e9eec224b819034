-- Journals, write-ahead logs, attached databases, backups, vacuum, blobs, and files.
pragma journal_mode = wal;
create table t(id integer primary key, b blob);
insert into t select value, zeroblob(value % 100) from generate_series(1, 3000);
pragma wal_checkpoint(truncate);
update t set b = x'0102ff' where id % 7 = 0;
pragma journal_mode = delete;
attach 'second.db' as second;
create table second.u as select id, length(b) as n from t where id < 50;
begin;
insert into second.u values (1000, 1);
insert into t values (10000, 'text');
commit;
begin immediate;
delete from second.u;
rollback;
select count(*), sum(n) from second.u;
.databases
detach second;
.backup copy.db
.save again.db
vacuum into 'vacuumed.db';
.open copy.db
select count(*), total(length(b)) from t;
delete from t where id > 100;
pragma page_count;
pragma auto_vacuum = full;
pragma page_size = 8192;
vacuum;
pragma page_size;
pragma page_count;
pragma integrity_check;
.open main.db
.restore copy.db
select count(*) from t;
select writefile('blob.out', x'00010203'), readfile('blob.out') = x'00010203', readfile('missing') is null;
select name, mode, length(data) from fsdir('blob.out');
.open --readonly again.db
delete from t;
.open memory.db
pragma journal_mode = memory;
pragma synchronous = off;
pragma cache_size = 10;
pragma mmap_size = 1048576;
create table big(a, b, c);
insert into big select value, 'row ' || value, value * 1.5 from generate_series(1, 60000);
create index big_b on big(b);
select a from big where b = 'row 41234';
select count(*), sum(a), max(b) from big;
select b from big order by c desc limit 3;
update big set c = -c where a % 3 = 0;
delete from big where a between 20000 and 50000;
select count(*), sum(c) from big;
pragma journal_mode = truncate;
pragma journal_mode = persist;
pragma temp_store = file;
create temp table scratch as select * from big order by b;
select b from scratch limit 2;
drop table big;
pragma journal_mode = delete;
vacuum;
.sha3sum
.open nowhere/none.db
select 1;
.open main.db
.archive --create --file a.sqlar blob.out
.archive --list --file a.sqlar
.clone cloned.db
.open a.sqlar
update sqlar set mtime = 0;
select name, mode, sz from sqlar;
.open main.db
.dbinfo
.stats off
.timeout 100
pragma locking_mode = exclusive;
begin exclusive;
commit;
.exit 3
