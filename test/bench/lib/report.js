/*
 * report.js
 *		The table for people and results.json for programs.
 */
'use strict';

const fs = require('fs');
const os = require('os');
const path = require('path');
const { chart } = require('./chart');
const { median } = require('./rounds');

/* 12345.6 as 12,346; small numbers with three digits that mean something. */
function show(number)
{
	if (!Number.isFinite(number))
		return String(number);
	if (Math.abs(number) >= 1000)
		return Math.round(number).toString().replace(/\B(?=(\d{3})+(?!\d))/g, ',');
	if (Math.abs(number) >= 100 || Number.isInteger(number))
		return number.toFixed(0);
	return number.toPrecision(3);
}

const spread = (numbers) => numbers.length === 1 ? '' :
	` (${show(Math.min(...numbers))}..${show(Math.max(...numbers))})`;

const ratioOf = (ours, reference) => ours.length === reference.length ?
	median(ours.map((number, round) => number / reference[round])) : median(ours) / median(reference);

class Report
{
	constructor(dir, machine)
	{
		this.dir = dir;
		this.machine = machine;
		this.results = [];
		this.curves = [];
		this.figures = [];
		this.lines = [];
	}

	print(line)
	{
		this.lines.push(line);
		console.log(line);
	}

	heading(figure)
	{
		this.figure = figure.name;
		this.print(`\n${figure.name}: ${figure.title}`);
	}

	/*
	 * One line.  "ours" and "reference" hold a number for each round; the ratio is the
	 * median of the ratios of the rounds, as what disturbs a round disturbs both.  The
	 * goal is a bound of it; without a reference it is a bound of the median itself.
	 * "peers" are shown beside it, { name: numbers }, and judge nothing.
	 */
	result(given)
	{
		const { measure, unit, ours, reference, referenceName, goal, better = 'higher', peers = {}, note } = given;
		const value = median(ours);
		const ratio = reference === undefined ? undefined : ratioOf(ours, reference);
		const judged = ratio ?? value;
		const reached = goal === undefined ? undefined : better === 'higher' ? judged >= goal : judged <= goal;
		let line = `  ${measure.padEnd(44)} ${show(value).padStart(9)} ${unit}${spread(ours)}`;

		if (reference !== undefined)
			line += `; ${referenceName} ${show(median(reference))}${spread(reference)}; ratio ${ratio.toFixed(2)}`;
		if (goal !== undefined)
			line += `, goal ${better === 'higher' ? '>=' : '<='} ${goal}: ${reached ? 'reached' : 'not reached'}`;
		this.print(line);
		for (const [name, numbers] of Object.entries(peers))
			this.print(`    ${name.padEnd(42)} ${show(median(numbers)).padStart(9)} ${unit}${spread(numbers)}`);
		if (note !== undefined)
			this.print(`    ${note}`);
		this.results.push({ figure: this.figure, measure, unit, better, median: value, ours,
			reference_name: referenceName, reference_median: reference && median(reference), reference,
			ratio, goal, reached, peers, note });
	}

	/* A number that goes into results.json only. */
	add(given)
	{
		this.results.push({ figure: this.figure, median: median(given.ours), ...given });
	}

	/* An SVG of these lines; the numbers go into results.json as well. */
	curve(given)
	{
		fs.writeFileSync(path.join(this.dir, given.file), chart(given));
		this.curves.push({ figure: this.figure, ...given });
		this.print(`  ${given.title}: ${given.file}`);
	}

	ended(figure, seconds, error)
	{
		this.figures.push({ name: figure.name, title: figure.title, seconds, error: error?.message });
		if (error !== undefined)
			this.print(`  ERROR in ${figure.name}: ${error.message}`);
	}

	/* After every figure, so that an interrupted run leaves what it has. */
	write()
	{
		const json = { machine: this.machine, figures: this.figures, results: this.results, curves: this.curves };

		fs.writeFileSync(path.join(this.dir, 'results.json'), JSON.stringify(json, null, '\t') + '\n');
		fs.writeFileSync(path.join(this.dir, 'table.txt'), this.lines.join('\n') + '\n');
	}
}

/* What the numbers were measured on. */
function machine(versions)
{
	const cpus = os.cpus();

	return {
		cpu: cpus[0]?.model.trim(), cores: cpus.length,
		memory_gb: Math.round(os.totalmem() / 2 ** 30),
		kernel: `${os.type()} ${os.release()}`,
		load: os.loadavg().map((load) => Number(load.toFixed(2))),
		node: process.version,
		...versions
	};
}

module.exports = { Report, machine, show };
