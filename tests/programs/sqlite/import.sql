-- Files in and out: .import, .output, .once, .read, .dump, and the modes of output.
.output words.csv
.print id,word,weight
.print 1,alpha,1.5
.print 2,"be,ta",-2
.print 3,"say ""hi""",
.output
.mode csv
.import words.csv words
.schema words
select * from words order by id;
.headers on
.mode list
.separator ;
select * from words;
.mode column
select * from words;
.mode box
select * from words;
.mode table
select * from words;
.mode markdown
select * from words;
.mode line
select * from words;
.mode json
select * from words;
.mode insert other
select * from words;
.mode quote
select x'00ff', null, 1.0, 'it''s' from words limit 1;
.mode html
select * from words where id = 2;
.mode tcl
select * from words where id = 3;
.mode ascii
.once ascii.out
select * from words;
.mode tabs
.headers off
.import --skip 1 words.csv tabbed
.mode csv
create table typed(id integer primary key, word text not null, weight real);
.import --skip 1 --csv words.csv typed
select id, typeof(word), typeof(weight) from typed;
.output dump.sql
.dump
.output
drop table words;
drop table tabbed;
drop table typed;
.read dump.sql
select count(*) from words;
select count(*) from typed;
.tables
.indexes
.import missing.csv words
.read missing.sql
.nullvalue (null)
select null;
.width 5 10
.mode column
select 'abcdefghij', 'abcdefghijklm';
.show
