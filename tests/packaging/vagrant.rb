# Stands in for Vagrant: loads the Vagrantfile named on the command line and prints what it set.
require "json"

class Recorder
  def initialize(calls, path)
    @calls, @path = calls, path
  end

  def method_missing(name, *args, **options)
    name = name.to_s
    path = @path + [name.delete_suffix("=")]
    if block_given?
      @calls << [path.join("."), args]
      yield Recorder.new(@calls, path + args), Recorder.new(@calls, ["override"] + args)
    elsif name.end_with?("=") || !args.empty? || !options.empty?
      @calls << [path.join("."), args, options]
    else
      Recorder.new(@calls, path)
    end
  end

  def respond_to_missing?(*)
    true
  end
end

module Vagrant
  def self.configure(version)
    calls = [["version", [version]]]
    yield Recorder.new(calls, [])
    puts JSON.generate(calls)
  end
end

load ARGV.fetch(0)
