#!/usr/bin/env perl
# The semantic hash of an adapter's config, written a second time: see README.md. Core modules only.
use strict;
use warnings;
use Digest::SHA qw(sha256_hex);
use JSON::PP ();
use Math::BigFloat ();
use Math::BigInt ();
use POSIX ();

use constant { VERSION => 1, DIGITS => 12, LARGEST_INTEGER => 9007199254740991, LARGEST_BLOCK => 9999 };

# Type and default of every field; no default is null. Numbers: i(nteger), f(loat).
my %LORA = (
    rank => ['i', 8], alpha => ['f', 16], dropout => ['f', 0], target_modules => ['names', 'all-linear'],
);
my %BOTTLENECK = (
    bottleneck_size => ['i', 64], non_linearity => ['s', 'gelu'], placement => ['s', 'par'], is_gated => ['b', 0],
    dropout         => ['f', 0],
);
my %BALANCE = (load_balancing => ['b', 1], load_balancing_coefficient => ['f', 0.01]);
my %LAYERS  = (layers => ['layers', undef]);
my %SPLIT   = (
    num_experts => ['i', 4], top_k => ['i', undef], rank => ['i', 8], alpha => ['f', 16], split => ['s', 'clusters'],
    %BALANCE, %LAYERS,
);
my %TOKENS  = (num_virtual_tokens => ['i', 16]);
my %SIZE_OF = (
    IA3 => undef,
    (map { $_ => ['rank', 8] } qw(LoHa LoKr VeRA HRA RandLoRA MiSS DeLoRA GraLoRA)),
    (map { $_ => ['block_size', 4] } qw(OFT BOFT C3A)),
    (map { $_ => ['num_frequencies', 128] } qw(FourierFT WaveFT)),
);
my %FIELDS = (
    LoRA => {
        %LORA, %LAYERS,
        use_rslora   => ['b', 0],
        use_dora     => ['b', 0],
        rank_pattern => ['pattern', 'i'], alpha_pattern => ['pattern', 'f'],
    },
    Adapter => { %BOTTLENECK, %LAYERS },
    MoE     => {
        num_experts     => ['i', 8],  top_k         => ['i', 2],
        bottleneck_size => ['i', 16], non_linearity => ['s', 'gelu'], is_gated => ['b', 0],
        routing         => ['s', 'learned'], %BALANCE, %LAYERS,
    },
    SplitLayer    => \%SPLIT,
    SparseRouting => \%SPLIT,
    PrefixTuning  => \%TOKENS,
    PromptTuning  => \%TOKENS,
    Combined      => { %LORA, %BOTTLENECK, first_layer => ['i', 0], boundary => ['i', 1] },
    (   map {
            $_ => { (map { $_ => ['i', undef] } qw(rank block_size num_frequencies)), target_modules => ['names', 'all-linear'], %LAYERS }
        } keys %SIZE_OF
    ),
);

# Reading ------------------------------------------------------------------------------------------------------------

sub fields_of {
    my ($config) = @_;
    my $strategy = $config->{strategy} // '';
    my $known    = $FIELDS{$strategy} or die "no strategy '$strategy'\n";
    for my $key (keys %$config) {
        die "$strategy has no field '$key'\n" unless $key eq 'strategy' || $known->{$key};
    }
    my %read = map { $_ => read_field($known->{$_}, $config->{$_}, $_) } keys %$known;
    return ($strategy, \%read);
}

sub read_field {
    my ($type, $value, $name) = @_;
    my ($kind, $default) = @$type;
    return layers($value)                                if $kind eq 'layers';
    return [sort keys %{ { map { $_ => 1 } (ref $value ? @$value : $value // $default) } }] if $kind eq 'names';
    return { map { $_ => number($default, $value->{$_}, $name) } keys %{ $value // {} } } if $kind eq 'pattern';
    return $default unless defined $value;
    return $kind eq 'b' ? ($value ? 1 : 0) : $kind eq 's' ? "$value" : number($kind, $value, $name);
}

# The double that a JSON number means: strtod rounds correctly, which Perl's own reading did not always do.
sub number {
    my ($kind, $value, $name) = @_;
    my $text = ref $value ? $value->bsstr : "$value";
    my ($number, $left) = POSIX::strtod($text);
    die "$name is no number: $text\n" if $left || $number != $number;
    die "$name is no whole number below 2**53: $text\n"
        if $kind eq 'i' && ($number != POSIX::floor($number) || abs($number) > LARGEST_INTEGER);
    return $number;
}

sub layers {
    my ($value) = @_;
    return undef unless defined $value;
    return undef if !ref $value && $value =~ /\A\s*all\s*\z/;
    my %found;
    for my $item (ref $value eq 'ARRAY' ? @$value : $value) {
        for my $part (split /,/, "$item", -1) {
            $part =~ /\A *([0-9]{1,4}) *(?:- *([0-9]{1,4}) *)?\z/ or die "'$item' is no set of blocks\n";
            my ($first, $last) = ($1, $2 // $1);
            die "'$item' is no set of blocks\n" if $last < $first;
            @found{ map { 0 + $_ } $first .. $last } = ();
        }
    }
    die "layers are empty\n" unless %found;
    return [sort { $a <=> $b } keys %found];
}

# The form -----------------------------------------------------------------------------------------------------------
# Values are ['n', number], ['s', text], ['b', truth], ['l', items...], ['o', hash] or undef for null.

sub form {
    my ($strategy, $field) = fields_of(@_);
    my %form = (version => n(VERSION), strategy => text($strategy));
    $form{layers} = list(map { n($_) } @{ $field->{layers} }) if $field->{layers};
    $form{layers} = undef if exists $field->{layers} && !$field->{layers};
    my $targets = exists $field->{target_modules} ? targets($field->{target_modules}) : undef;
    $form{target_modules} = list(map { text($_) } @$targets) if $targets;
    for my $name (qw(bottleneck_size num_experts first_layer boundary num_virtual_tokens)) {
        $form{$name} = n($field->{$name}) if exists $field->{$name};
    }
    for my $name (qw(non_linearity placement routing split)) {
        $form{$name} = text($field->{$name}) if exists $field->{$name};
    }
    for my $name (qw(is_gated use_dora)) {
        $form{$name} = ['b', $field->{$name}] if exists $field->{$name};
    }
    $form{dropout} = n(significant($field->{dropout})) if exists $field->{dropout};
    if ($strategy eq 'LoRA') {
        %form = (%form, scaling($field, $targets));
    }
    elsif (exists $SIZE_OF{$strategy}) {
        my $own = $SIZE_OF{$strategy};
        $form{size} = $own ? n($field->{ $own->[0] } // $own->[1]) : undef;
        for my $name (qw(rank block_size num_frequencies)) {
            die "$strategy takes no $name\n" if defined $field->{$name} && !($own && $own->[0] eq $name);
        }
    }
    elsif (exists $field->{alpha}) {
        $form{rank}  = n($field->{rank});
        $form{scale} = n(scale($field->{rank}, $field->{alpha}, 0));
    }
    if (exists $field->{load_balancing}) {
        my $has_loss = $field->{load_balancing} && $strategy ne 'SplitLayer' && ($field->{routing} // '') ne 'random';
        $form{balance} = n($has_loss ? significant($field->{load_balancing_coefficient}) : 0);
        my $experts = $field->{num_experts};
        my $half    = $experts > 3 ? POSIX::floor($experts / 2) : 1;
        $form{top_k} = n($field->{top_k} // ($strategy eq 'SplitLayer' ? $experts : $half));
    }
    return ['o', \%form];
}

sub targets {
    my %name = map { $_ => 1 } @{ $_[0] };
    return ['all-linear'] if $name{'all-linear'};
    return [grep { !(/\./ && $name{ ending($_) }) } sort keys %name];
}

sub ending { my ($last) = $_[0] =~ /([^.]*)\z/; return $last }

sub scale {
    my ($rank, $alpha, $is_root) = @_;
    return significant($alpha / ($is_root ? sqrt $rank : $rank));
}

sub scaling {
    my ($field, $targets) = @_;
    my $is_root = $field->{use_rslora};
    my ($rank,  $ranks)  = reduced($field->{rank},  $field->{rank_pattern},  sub { $_[0] });
    my ($alpha, $alphas) = reduced($field->{alpha}, $field->{alpha_pattern}, \&significant);
    if (interlock($ranks, $alphas) || interlock($alphas, $ranks)) {
        return (
            rank => n($rank), alpha => n(significant($alpha)), use_rslora => ['b', $is_root],
            rank_pattern  => list(map { list(text($_), n($ranks->{$_})) } sort keys %$ranks),
            alpha_pattern => list(map { list(text($_), n(significant($alphas->{$_}))) } sort keys %$alphas),
        );
    }
    # A pair is one string, so that pairs can be compared: rank and scale, written in full.
    my $pair = sub { sprintf '%.17g %.17g', $_[0], scale($_[0], $_[1], $is_root) };
    my $most = $pair->($rank, $alpha);
    my %pairs = map { $_ => $pair->($ranks->{$_} // $rank, $alphas->{$_} // $alpha) } keys %$ranks, keys %$alphas;
    my $others = without_idle($most, \%pairs);
    ($most, $others) = by_ending($most, $others, $targets);
    return (
        rank => n(first_of($most)), scale => n(second_of($most)),
        exceptions =>
            list(map { list(text($_), n(first_of($others->{$_})), n(second_of($others->{$_}))) } sort keys %$others),
    );
}

sub first_of  { my ($one) = split / /, $_[0]; return 0 + (POSIX::strtod($one))[0] }
sub second_of { my (undef, $two) = split / /, $_[0]; return 0 + (POSIX::strtod($two))[0] }

sub reduced {
    my ($default, $pattern, $rounded) = @_;
    my %left = %$pattern;
    if (exists $left{'.*'}) {
        $default = $left{'.*'};
        delete @left{ grep { $_ ge '.*' } keys %left };
    }
    my $written = sub { sprintf '%.17g', $rounded->($_[0]) };
    my $kept    = without_idle($written->($default), { map { $_ => $written->($left{$_}) } keys %left });
    return ($default, { map { $_ => $left{$_} } keys %$kept });
}

sub without_idle {
    my ($default, $pattern) = @_;
    my %kept;
    for my $key (reverse sort keys %$pattern) {
        my $hides = grep { $kept{$_} ne $default && may_meet($key, $_) } keys %kept;
        $kept{$key} = $pattern->{$key} if $pattern->{$key} ne $default || $hides;
    }
    return \%kept;
}

sub interlock {
    my ($ones, $others) = @_;
    for my $key (grep { !exists $others->{$_} } keys %$ones) {
        return 1 if grep { $_ gt $key && may_meet($key, $_) } keys %$others;
    }
    return 0;
}

sub is_plain { return $_[0] =~ /\A[A-Za-z0-9_.-]+\z/ }

sub may_meet {
    my ($short, $long) = @_;
    return 1 unless is_plain($short) && is_plain($long);
    ($short, $long) = ($long, $short) if length $short > length $long;
    my $extra = length($long) - length $short;
    return 0 if $extra && substr($long, $extra - 1, 1) ne '.';
    for my $place (0 .. length($short) - 1) {
        my ($one, $other) = (substr($short, $place, 1), substr($long, $extra + $place, 1));
        return 0 unless $one eq $other || $one eq '.' || $other eq '.';
    }
    return 1;
}

sub by_ending {
    my ($most, $others, $targets) = @_;
    return ($most, $others) if $targets->[0] eq 'all-linear';
    return ($most, $others) if grep { /\./ || !is_plain($_) } keys %$others;
    my %pairs = map { my $end = ending($_); $end => $others->{$end} // $most } @$targets;
    my %count;
    $count{$_}++ for values %pairs;
    my ($winner) = sort {
               $count{$b} <=> $count{$a}
            || first_of($b) <=> first_of($a)
            || second_of($b) <=> second_of($a)
    } keys %count;
    return ($winner, { map { $_ => $pairs{$_} } grep { $pairs{$_} ne $winner } keys %pairs });
}

# RFC 8785 -----------------------------------------------------------------------------------------------------------

sub n    { return ['n', $_[0]] }
sub text { return ['s', $_[0]] }
sub list { return ['l', @_] }

sub significant {
    my ($text) = sprintf '%.*e', DIGITS - 1, $_[0];
    return (POSIX::strtod($text))[0];
}

sub canonical {
    my ($value) = @_;
    return 'null' unless defined $value;
    my ($kind, @rest) = @$value;
    return es6_number($rest[0])             if $kind eq 'n';
    return string($rest[0])                 if $kind eq 's';
    return $rest[0] ? 'true' : 'false'      if $kind eq 'b';
    return '[' . join(',', map { canonical($_) } @rest) . ']' if $kind eq 'l';
    my %members = %{ $rest[0] };
    return '{' . join(',', map { string($_) . ':' . canonical($members{$_}) } sort keys %members) . '}';
}

sub string {
    my ($text) = @_;
    my %short = ("\b" => 'b', "\t" => 't', "\n" => 'n', "\f" => 'f', "\r" => 'r', '"' => '"', '\\' => '\\');
    $text =~ s/([\x00-\x1f"\\])/'\\' . ($short{$1} \/\/ sprintf 'u%04x', ord $1)/ge;
    return qq("$text");
}

# Number::toString of ECMAScript: the fewest digits that read back as the same double, of those the closest.
sub es6_number {
    my ($value) = @_;
    return '0' if $value == 0;
    return '-' . es6_number(-$value) if $value < 0;
    my ($digits, $exponent) = shortest($value);
    my $count = length $digits;
    my $point = $exponent + 1;
    return $digits . '0' x ($point - $count)                                     if $count <= $point && $point <= 21;
    return substr($digits, 0, $point) . '.' . substr $digits, $point             if 0 < $point && $point <= 21;
    return '0.' . '0' x -$point . $digits                                        if -6 < $point && $point <= 0;
    my $mantissa = $count == 1 ? $digits : substr($digits, 0, 1) . '.' . substr $digits, 1;
    return $mantissa . 'e' . ($exponent < 0 ? '-' : '+') . abs $exponent;
}

sub shortest {
    my ($value) = @_;
    for my $places (0 .. 16) {
        my ($whole, $exponent) = split /e/, sprintf '%.*e', $places, $value;
        (my $digits = $whole) =~ s/\.//;
        # Beside a power of two the nearest decimal may read back as its neighbour while the next one does not.
        for my $candidate ($digits, $digits + 1, $digits - 1) {
            next if length $candidate != $places + 1;
            next if (POSIX::strtod("${candidate}e" . ($exponent - $places)))[0] != $value;
            $candidate =~ s/0+\z//;
            return ($candidate, 0 + $exponent);
        }
    }
    die "no decimal reads back as $value\n";
}

# ---------------------------------------------------------------------------------------------------------------------

sub main {
    my ($mode) = @_;
    $mode //= '--digest';
    die "usage: semantic_hash.pl [--digest|--hash|--form] < CONFIGS.json\n" if $mode !~ /\A--(?:digest|hash|form)\z/;
    my $parser = JSON::PP->new->utf8->allow_bignum;
    local $/ = undef;
    $parser->incr_parse(scalar <STDIN>);
    my $count = 0;
    while (my $config = $parser->incr_parse) {
        my $bytes = canonical(form($config));
        utf8::encode($bytes);
        my $digest = 'sha256:' . sha256_hex($bytes);
        print $mode eq '--form' ? $bytes : $mode eq '--hash' ? substr $digest, 7, 16 : $digest, "\n";
        $count++;
    }
    die "no config on standard input\n" unless $count;
    return 0;
}

exit main(@ARGV) unless caller;
1;
